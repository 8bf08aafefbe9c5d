//! What an edit says of one document, in JSON: as it was acknowledged, and as a store keeps it.
//!
//! Law: a store may keep less of an edit than was written only where the document held the rest already. An empty set, an empty map and
//! null are an absent field.

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::{json::value_to_json, value::Value};
use herdbook_proto::edit::{Change, Operation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::errors::Error;

/// What an edit says of its document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Written {
    /// It has exactly these fields.
    Whole(Map<String, Json>),
    /// These of its fields change.
    Changed(BTreeMap<String, FieldChange>),
    /// It is gone.
    Deleted,
}

/// What an edit says of one field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FieldChange {
    /// It is this; null: absent.
    Set(Json),
    /// It gains and loses elements.
    Elements { add: Vec<Json>, remove: Vec<Json> },
}

impl Written {
    /// Returns what an operation says.
    ///
    /// # Errors
    /// If it changes a field in a way in which the demo writes nothing.
    pub(super) fn of(operation: &Operation) -> Result<Self, Error> {
        Ok(match operation {
            Operation::Create(fields) | Operation::Put(fields) => Self::Whole(whole(fields)),
            Operation::Update(changes) => {
                let changes = changes.iter().map(|(name, change)| Ok((name.to_string(), FieldChange::of(change)?)));
                Self::Changed(changes.collect::<Result<_, Error>>()?)
            }
            Operation::Delete => Self::Deleted,
        })
    }

    /// Whether `stored` is what a store keeps of this.
    ///
    /// An edit that is kept without any field never is: no request of the demo asks for what is there already.
    pub(super) fn is_kept_as(&self, stored: &Self) -> bool {
        match (self, stored) {
            (Self::Deleted, Self::Deleted) => true,
            (Self::Whole(written), Self::Whole(stored)) => present(written) == present(stored),
            (Self::Whole(written), Self::Changed(stored)) => {
                !stored.is_empty() && stored.iter().all(|(name, change)| change.has_led_to(written.get(name)))
            }
            (Self::Changed(written), Self::Changed(stored)) => {
                !stored.is_empty()
                    && written.keys().eq(stored.keys())
                    && written.values().zip(stored.values()).all(|(written, stored)| written.is_kept_as(stored))
            }
            _ => false,
        }
    }

    /// Whether a document with these fields is as this says; never if it says that there is none.
    pub(super) fn is_shown_by(&self, fields: &Map<String, Json>) -> bool {
        match self {
            Self::Whole(written) => present(written) == present(fields),
            Self::Changed(changes) => changes.iter().all(|(name, change)| change.has_led_to(fields.get(name))),
            Self::Deleted => false,
        }
    }
}

impl FieldChange {
    fn of(change: &Change) -> Result<Self, Error> {
        let list = |elements: &[Value]| elements.iter().map(value_to_json).collect();
        match change {
            Change::Set(value) => Ok(Self::Set(value_to_json(value))),
            Change::Clear => Ok(Self::Set(Json::Null)),
            Change::Elements { add, remove } => Ok(Self::Elements { add: list(add), remove: list(remove) }),
            other => Err(Error::Demo { what: format!("no request of the demo writes {other:?}") }),
        }
    }

    fn is_kept_as(&self, stored: &Self) -> bool {
        match (self, stored) {
            (Self::Set(written), Self::Set(stored)) => written == stored || is_absent(written) && is_absent(stored),
            (Self::Elements { add, remove }, Self::Elements { add: added, remove: removed }) => {
                let something = !(added.is_empty() && removed.is_empty());
                something && added.iter().all(|element| add.contains(element)) && removed.iter().all(|element| remove.contains(element))
            }
            _ => false,
        }
    }

    /// Whether the field may be `now` after this.
    fn has_led_to(&self, now: Option<&Json>) -> bool {
        let now = now.filter(|value| !is_absent(value));
        match self {
            Self::Set(value) => now == Some(value).filter(|value| !is_absent(value)),
            Self::Elements { add, remove } => {
                let has = |element: &Json| now.and_then(Json::as_array).is_some_and(|elements| elements.contains(element));
                let something = !(add.is_empty() && remove.is_empty());
                something && add.iter().all(has) && !remove.iter().any(has)
            }
        }
    }
}

fn whole(fields: &[(Arc<str>, Value)]) -> Map<String, Json> {
    fields.iter().map(|(name, value)| (name.to_string(), value_to_json(value))).collect()
}

fn present(fields: &Map<String, Json>) -> BTreeMap<&str, &Json> {
    fields.iter().filter(|(_, value)| !is_absent(value)).map(|(name, value)| (name.as_str(), value)).collect()
}

fn is_absent(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(elements) => elements.is_empty(),
        Json::Object(members) => members.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(json: Json) -> Written {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_edit_that_is_stored_without_fields_is_refused() {
        let nothing = written(json!({ "changed": {} }));
        assert!(!written(json!({ "whole": { "population": 1 } })).is_kept_as(&nothing));
        assert!(!written(json!({ "whole": { "population": 1 } })).is_kept_as(&written(json!({ "whole": {} }))));
        assert!(!written(json!({ "changed": { "population": { "set": 1 } } })).is_kept_as(&nothing));
    }

    #[test]
    fn a_new_document_is_stored_with_every_field_that_holds_something() {
        let put = written(json!({ "whole": { "name": "Ulm", "population": 1, "alternatenames": [] } }));
        assert!(put.is_kept_as(&written(json!({ "whole": { "name": "Ulm", "population": 1 } }))));
        assert!(!put.is_kept_as(&written(json!({ "whole": { "name": "Ulm" } }))));
        assert!(!put.is_kept_as(&written(json!({ "whole": { "name": "Ulm", "population": 2 } }))));
        assert!(!put.is_kept_as(&written(json!({ "whole": { "name": "Ulm", "population": 1, "timezone": "Europe" } }))));
    }

    #[test]
    fn a_put_of_what_was_there_is_stored_as_what_differed() {
        let put = written(json!({ "whole": { "name": "Ulm", "population": 1, "alternatenames": ["Ulma"] } }));
        assert!(put.is_kept_as(&written(json!({ "changed": { "population": { "set": 1 }, "timezone": { "set": null } } }))));
        assert!(put.is_kept_as(&written(json!({ "changed": { "alternatenames": { "elements": { "add": ["Ulma"], "remove": ["U"] } } } }))));
        assert!(!put.is_kept_as(&written(json!({ "changed": { "population": { "set": 2 } } }))));
        assert!(!put.is_kept_as(&written(json!({ "changed": { "name": { "set": null } } }))));
        assert!(!put.is_kept_as(&written(json!({ "changed": { "alternatenames": { "elements": { "add": [], "remove": ["Ulma"] } } } }))));
    }

    #[test]
    fn an_update_is_stored_with_exactly_its_fields() {
        let update = written(json!({ "changed": { "name": { "set": "Ulm" }, "population": { "set": 1 } } }));
        assert!(update.is_kept_as(&update.clone()));
        assert!(!update.is_kept_as(&written(json!({ "changed": { "name": { "set": "Ulm" } } }))));
        assert!(!update.is_kept_as(&written(json!({ "changed": { "name": { "set": "Ulm" }, "timezone": { "set": 1 } } }))));
        assert!(!update.is_kept_as(&written(json!("deleted"))));
    }

    #[test]
    fn a_change_of_a_set_is_stored_as_a_part_of_it_that_is_not_empty() {
        let elements = |add: &[&str], remove: &[&str]| {
            let change = json!({ "elements": { "add": add, "remove": remove } });
            written(json!({ "changed": { "alternatenames": change } }))
        };
        let update = elements(&["Ulma", "Ulmo"], &["U"]);
        assert!(update.is_kept_as(&elements(&["Ulmo"], &[])));
        assert!(!update.is_kept_as(&elements(&[], &[])));
        assert!(!update.is_kept_as(&elements(&["U"], &[])));
        assert!(!update.is_kept_as(&elements(&["Ulmo"], &["Ulma"])));
    }

    #[test]
    fn a_document_shows_exactly_what_was_put() {
        let put = written(json!({ "whole": { "name": "Ulm", "population": null } }));
        let shown = |json: Json| put.is_shown_by(json.as_object().unwrap());
        assert!(shown(json!({ "name": "Ulm", "alternatenames": [] })));
        assert!(!shown(json!({ "name": "Ulm", "population": 1 })));
        assert!(!shown(json!({})));
        assert!(!Written::Deleted.is_shown_by(&Map::new()));
    }
}
