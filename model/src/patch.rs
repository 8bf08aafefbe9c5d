//! Patches: what differs between two readings of a document, said so that it can be done to a third.
//!
//! Laws: `fit(between(a, b), a)` leads to `b`; `fit(between(a, b), b)` has nothing to do; `reversed(between(a, b)) = between(b, a)`. A patch fits
//! where what it changes reads as it did before, whatever else was changed. Sets fit by element, maps by entry, counters by amount.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    schema::{Collection, FieldType},
    value::{Key, Scalar, Value},
};

/// Names of fields and what they read.
pub type Fields = BTreeMap<Arc<str>, Value>;

/// What differs in one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Its collection.
    pub collection: Arc<str>,
    /// Its key.
    pub key: Key,
    /// Whether it came, went or changed.
    pub kind: Kind,
    /// Each field that differs, as it was and as it became.
    pub fields: BTreeMap<Arc<str>, Sides>,
}

/// What happened to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It came into being.
    Create,
    /// Some of its fields changed.
    Update,
    /// It went.
    Delete,
}

/// A field, before and after; none: absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// As it was.
    pub before: Option<Value>,
    /// As it became.
    pub after: Option<Value>,
}

/// What a patch asks to be done to a document as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// Nothing: it is so already.
    Done,
    /// Make it, with these fields.
    Create(Vec<(Arc<str>, Value)>),
    /// Give these fields these values; none: make them absent.
    Update(Vec<(Arc<str>, Option<Value>)>),
    /// Delete it.
    Delete,
}

/// Why a patch does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The patch changes a document that is not there.
    #[error("there is no document `{collection}/{key}` to change")]
    Absent {
        /// Its collection.
        collection: Arc<str>,
        /// Its key.
        key: Key,
    },
    /// The patch makes a document that is there with other fields.
    #[error("document `{collection}/{key}` is there already and reads otherwise")]
    Present {
        /// Its collection.
        collection: Arc<str>,
        /// Its key.
        key: Key,
    },
    /// A field reads neither as it did before nor as it is to.
    #[error("field `{field}` of `{collection}/{key}` reads neither as before the patch nor as after it")]
    Changed {
        /// The document's collection.
        collection: Arc<str>,
        /// The document's key.
        key: Key,
        /// The field.
        field: Arc<str>,
    },
}

impl Patch {
    /// Returns what leads from one reading of a document to another, `None` if they are equal; a document that is not there has no fields.
    pub fn between(collection: &Arc<str>, key: &Key, before: Option<&Fields>, after: Option<&Fields>) -> Option<Self> {
        let kind = match (before, after) {
            (None, None) => return None,
            (None, Some(_)) => Kind::Create,
            (Some(_), None) => Kind::Delete,
            (Some(_), Some(_)) => Kind::Update,
        };
        let none = Fields::new();
        let (before, after) = (before.unwrap_or(&none), after.unwrap_or(&none));
        let names = before.keys().chain(after.keys());
        let sides = |name: &Arc<str>| (name.clone(), Sides { before: before.get(name).cloned(), after: after.get(name).cloned() });
        let fields: BTreeMap<_, _> = names.map(sides).filter(|(_, sides)| sides.before != sides.after).collect();
        let differs = kind != Kind::Update || !fields.is_empty();
        differs.then(|| Self { collection: collection.clone(), key: key.clone(), kind, fields })
    }

    /// Returns the patch that leads back.
    #[must_use]
    pub fn reversed(self) -> Self {
        let kind = match self.kind {
            Kind::Create => Kind::Delete,
            Kind::Update => Kind::Update,
            Kind::Delete => Kind::Create,
        };
        let fields = self.fields.into_iter().map(|(name, Sides { before, after })| (name, Sides { before: after, after: before }));
        Self { kind, fields: fields.collect(), ..self }
    }

    /// Returns what the patch asks to be done to the document as it reads `now`.
    ///
    /// # Errors
    /// [`Misfit`] with the place that reads otherwise.
    pub fn fit(&self, collection: &Collection, now: Option<&Fields>) -> Result<Fit, Misfit> {
        let reads = |side: fn(&Sides) -> &Option<Value>, now: &Fields| {
            let wanted = self.fields.iter().filter_map(|(name, sides)| Some((name, side(sides).as_ref()?)));
            wanted.eq(now.iter())
        };
        match (self.kind, now) {
            (Kind::Create, None) => {
                let fields = self.fields.iter().filter_map(|(name, sides)| Some((name.clone(), sides.after.clone()?)));
                Ok(Fit::Create(fields.collect()))
            }
            (Kind::Create, Some(now)) if reads(|sides| &sides.after, now) => Ok(Fit::Done),
            (Kind::Create, Some(_)) => Err(Misfit::Present { collection: self.collection.clone(), key: self.key.clone() }),
            (Kind::Delete, None) => Ok(Fit::Done),
            (Kind::Delete, Some(now)) if reads(|sides| &sides.before, now) => Ok(Fit::Delete),
            (Kind::Delete, Some(now)) => {
                let was = |name: &&Arc<str>| self.fields.get(*name).and_then(|sides| sides.before.as_ref());
                let names = now.keys().chain(self.fields.keys());
                let changed = names.clone().find(|name| was(name) != now.get(*name));
                Err(self.changed(changed.cloned().unwrap_or_default()))
            }
            (Kind::Update, None) => Err(Misfit::Absent { collection: self.collection.clone(), key: self.key.clone() }),
            (Kind::Update, Some(now)) => {
                let mut wanted = Vec::new();
                for (name, sides) in &self.fields {
                    let ty = collection.field(name).ok().map(|field| &field.ty);
                    let next = merged(ty, sides.before.as_ref(), sides.after.as_ref(), now.get(name));
                    let next = next.ok_or_else(|| self.changed(name.clone()))?;
                    if next.as_ref() != now.get(name) {
                        wanted.push((name.clone(), next));
                    }
                }
                Ok(if wanted.is_empty() { Fit::Done } else { Fit::Update(wanted) })
            }
        }
    }

    fn changed(&self, field: Arc<str>) -> Misfit {
        Misfit::Changed { collection: self.collection.clone(), key: self.key.clone(), field }
    }
}

/// Returns what a place is to read, `None` if the patch does not fit it.
fn merged(ty: Option<&FieldType>, before: Option<&Value>, after: Option<&Value>, now: Option<&Value>) -> Option<Option<Value>> {
    if now == after || before == after {
        return Some(now.cloned());
    }
    if now == before {
        return Some(after.cloned());
    }
    match ty? {
        FieldType::Counter => {
            let amount = |value: Option<&Value>| if let Some(Value::Scalar(Scalar::Int(amount))) = value { *amount } else { 0 };
            Some(Some(Value::from(amount(now).wrapping_add(amount(after).wrapping_sub(amount(before))))))
        }
        FieldType::Set(_) => {
            let elements =
                |value: Option<&Value>| if let Some(Value::Set(elements)) = value { elements.clone() } else { Default::default() };
            let (before, after, mut now) = (elements(before), elements(after), elements(now));
            now.retain(|element| after.contains(element) || !before.contains(element));
            now.extend(after.difference(&before).cloned());
            Some((!now.is_empty()).then_some(Value::Set(now)))
        }
        FieldType::Map(of) => {
            let entries = |value: Option<&Value>| if let Some(Value::Map(entries)) = value { entries.clone() } else { Default::default() };
            let (before, after, mut now) = (entries(before), entries(after), entries(now));
            for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))) {
                match merged(Some(of), before.get(key), after.get(key), now.get(key))? {
                    Some(value) => _ = now.insert(key.clone(), value),
                    None => _ = now.remove(key),
                }
            }
            Some((!now.is_empty()).then_some(Value::Map(now)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Field, FieldId};

    fn collection() -> Collection {
        let json = r#"{"version": 1, "collections": {"notes": {"fields": [
            {"name": "title", "type": "string"}, {"name": "text", "type": "text"}, {"name": "tags", "type": "set<string>"},
            {"name": "links", "type": "map<int>"}, {"name": "hits", "type": "counter"}]}}}"#;
        crate::json::schema_from_json(json).expect("valid").collections.remove(0)
    }

    fn fields(json: serde_json::Value) -> Fields {
        let collection = collection();
        let read = crate::json::fields_from_json(&collection, &json).expect("fits");
        let named = |(id, value): (FieldId, Option<Value>)| Some((collection.get(id).map(|field: &Field| field.name.clone())?, value?));
        read.into_iter().filter_map(named).collect()
    }

    fn between(before: &Fields, after: &Fields) -> Patch {
        Patch::between(&"notes".into(), &Key::new("a").expect("short"), Some(before), Some(after)).expect("they differ")
    }

    fn done(patch: &Patch, now: &Fields) -> Result<Fields, Misfit> {
        let mut next = now.clone();
        if let Fit::Update(changes) = patch.fit(&collection(), Some(now))? {
            for (name, value) in changes {
                match value {
                    Some(value) => _ = next.insert(name, value),
                    None => _ = next.remove(&name),
                }
            }
        }
        Ok(next)
    }

    #[test]
    fn a_patch_leads_there_back_and_no_further() {
        let a = fields(serde_json::json!({"title": "a", "text": "one", "tags": ["x", "y"], "links": {"u": 1, "v": 2}, "hits": 3}));
        let b = fields(serde_json::json!({"text": "two", "tags": ["y", "z"], "links": {"u": 5, "w": 2}, "hits": 10}));
        let patch = between(&a, &b);
        assert_eq!(done(&patch, &a), Ok(b.clone()));
        assert_eq!(patch.fit(&collection(), Some(&b)), Ok(Fit::Done));
        assert_eq!(patch.clone().reversed(), between(&b, &a));
        assert_eq!(done(&patch.reversed(), &b), Ok(a));
    }

    #[test]
    fn a_patch_leaves_what_others_changed_beside_it() {
        let a = fields(serde_json::json!({"title": "a", "tags": ["x"], "links": {"u": 1}, "hits": 3}));
        let b = fields(serde_json::json!({"title": "a", "tags": ["y"], "links": {"u": 2}, "hits": 4}));
        let now = fields(serde_json::json!({"title": "new", "tags": ["x", "n"], "links": {"u": 1, "n": 9}, "hits": 100}));
        let expected = fields(serde_json::json!({"title": "new", "tags": ["n", "y"], "links": {"u": 2, "n": 9}, "hits": 101}));
        assert_eq!(done(&between(&a, &b), &now), Ok(expected));
    }

    #[test]
    fn a_patch_that_meets_another_value_does_not_fit() {
        let (a, b) =
            (fields(serde_json::json!({"title": "a", "links": {"u": 1}})), fields(serde_json::json!({"title": "b", "links": {"u": 2}})));
        let patch = between(&a, &b);
        let misfit = |now: serde_json::Value| match done(&patch, &fields(now)) {
            Err(Misfit::Changed { field, .. }) => field.to_string(),
            other => panic!("it fits: {other:?}"),
        };
        assert_eq!(misfit(serde_json::json!({"title": "c", "links": {"u": 1}})), "title");
        assert_eq!(misfit(serde_json::json!({"title": "a", "links": {"u": 3}})), "links");
        assert!(matches!(patch.fit(&collection(), None), Err(Misfit::Absent { .. })));
        let made = Patch::between(&"notes".into(), &Key::new("a").expect("short"), None, Some(&a)).expect("it is new");
        assert!(matches!(made.fit(&collection(), Some(&b)), Err(Misfit::Present { .. })));
        assert_eq!(made.fit(&collection(), Some(&a)), Ok(Fit::Done));
        assert!(matches!(made.clone().reversed().fit(&collection(), Some(&b)), Err(Misfit::Changed { .. })));
        assert_eq!(made.reversed().fit(&collection(), Some(&a)), Ok(Fit::Delete));
    }
}
