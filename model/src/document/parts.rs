//! What is kept of a document, field by field, and how edits are replayed on it.

use super::{Context, Field, Rules, Stamp, insert};
use crate::{
    edit::{Edit, FieldEdit, Operation},
    schema::{Deletes, FieldId},
};

/// What is kept of a document. Fields of a deleted document stay, hidden, until the horizon: a concurrent edit brings the whole document back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Parts {
    /// Edits that no later edit of this document saw; none: the document is deleted.
    pub(super) alive: Vec<Stamp>,
    /// By number; no field is empty.
    pub(super) fields: Vec<(FieldId, Field)>,
    /// Deletes that no later edit of this document saw, where its collection keeps them.
    pub(super) graves: Vec<Stamp>,
    /// Whether a document that has graves and is alive is in conflict about it, rather than deleted.
    pub(super) contested: bool,
}

impl Parts {
    pub(super) const fn exist(&self) -> bool {
        !self.alive.is_empty() && (self.contested || self.graves.is_empty())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.alive.is_empty() && self.fields.is_empty() && self.graves.is_empty()
    }

    pub(super) fn apply(&mut self, edit: &Edit, context: &Context<'_>, rules: &impl Rules) {
        match &edit.operation {
            Operation::Delete => self.bury(context, rules.deletes()),
            Operation::Create(fields) => {
                self.forget_seen(context, rules);
                self.touch(context);
                self.apply_fields(fields, context, rules);
            }
            Operation::Update(fields) => {
                self.touch(context);
                self.apply_fields(fields, context, rules);
            }
        }
    }

    fn touch(&mut self, context: &Context<'_>) {
        self.alive.retain(|stamp| !context.saw(&stamp.dot));
        insert(&mut self.alive, context.stamp);
        self.exhume(context);
    }

    fn bury(&mut self, context: &Context<'_>, deletes: Deletes) {
        self.alive.retain(|stamp| !context.saw(&stamp.dot));
        self.exhume(context);
        if deletes != Deletes::EditWins {
            insert(&mut self.graves, context.stamp);
            self.contested = deletes == Deletes::Conflict;
        }
    }

    fn exhume(&mut self, context: &Context<'_>) {
        self.graves.retain(|stamp| !context.saw(&stamp.dot));
        self.contested &= !self.graves.is_empty();
    }

    fn forget_seen(&mut self, context: &Context<'_>, rules: &impl Rules) {
        for (id, field) in &mut self.fields {
            let rule = rules.rule(*id);
            field.take_away(context, &|sibling| rule.is_some_and(|rule| rule.is_floor(sibling)));
        }
        self.fields.retain(|(_, field)| !field.is_empty());
    }

    fn apply_fields(&mut self, edits: &[FieldEdit], context: &Context<'_>, rules: &impl Rules) {
        if self.fields.is_empty() {
            self.fields.reserve_exact(edits.len());
        }
        for FieldEdit { field, change } in edits {
            let Some(rule) = rules.rule(*field) else { continue };
            let at = match self.fields.binary_search_by_key(field, |(id, _)| *id) {
                Ok(at) => at,
                Err(at) => {
                    self.fields.insert(at, (*field, Field::default()));
                    at
                }
            };
            self.fields[at].1.apply(change, context, rule);
            if self.fields[at].1.is_empty() {
                self.fields.remove(at);
            }
        }
    }
}
