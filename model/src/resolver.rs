//! Custom policies: what a reader sees of siblings that differ, as the application says.
//!
//! States keep the siblings, never what a resolver made of them, so nodes with and without it agree on every root. Who lacks it shows the newest
//! sibling and lists the conflict, until somebody who has it commits the outcome: [`resolutions`] are the edits to sign.
//!
//! Laws, for siblings sorted by stamp:
//! - it is pure: the same siblings give the same value, on every node, for ever (a change of mind is a new name);
//! - it is total: it neither panics nor blocks, whatever the values;
//! - it agrees with who agree: siblings of one value resolve to that value;
//! - it is settled: what it resolved to, alone, resolves to itself, so a resolution ends the conflict and starts none;
//! - it keeps the type: the outcome is a value that the field takes, or none.
//!
//! It need not be associative: it is only ever asked about all siblings at once. [`check`] tests a resolver against these laws.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use crate::{
    document::{ConflictSibling, Document, Stamp, View},
    edit::FieldEdit,
    replace::replace,
    schema::{Collection, Field, FieldType, ResolverName},
    value::Value,
};

/// A custom policy.
pub trait Resolver: Send + Sync {
    /// Returns the value of a field whose concurrent `siblings`, by stamp, hold at least two distinct values; `None`: it is absent.
    fn resolve(&self, siblings: &[ConflictSibling]) -> Option<Value>;
}

impl<F: Fn(&[ConflictSibling]) -> Option<Value> + Send + Sync> Resolver for F {
    fn resolve(&self, siblings: &[ConflictSibling]) -> Option<Value> {
        self(siblings)
    }
}

/// The resolvers that a node has.
#[derive(Clone, Default)]
pub struct Resolvers(BTreeMap<ResolverName, Arc<dyn Resolver>>);

impl Resolvers {
    /// Returns no resolvers.
    pub(crate) fn none() -> &'static Self {
        static NONE: OnceLock<Resolvers> = OnceLock::new();
        NONE.get_or_init(Self::default)
    }

    /// Adds a resolver, in place of an earlier one of that name.
    #[must_use]
    pub fn with(mut self, name: ResolverName, resolver: impl Resolver + 'static) -> Self {
        self.0.insert(name, Arc::new(resolver));
        self
    }

    /// Returns what the resolver called `name` makes of siblings; `None` if it is not here.
    pub fn resolve(&self, name: &ResolverName, siblings: &[ConflictSibling]) -> Option<Option<Value>> {
        self.0.get(name).map(|resolver| resolver.resolve(siblings))
    }
}

impl fmt::Debug for Resolvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Returns the edits that write down what `resolvers` make of a document's conflicts: made by one node, they resolve for all.
pub fn resolutions(document: &Document, collection: &Collection, resolvers: &Resolvers) -> Vec<FieldEdit> {
    let (Some(plain), Some(resolved)) = (document.view(collection), document.view_with(collection, resolvers)) else { return Vec::new() };
    let is_in_conflict = |view: &View, field: &Field| view.conflicts.iter().any(|conflict| conflict.field == field.name);
    let settled = collection.fields.iter().filter(|field| is_in_conflict(&plain, field) && !is_in_conflict(&resolved, field));
    let edit = |field: &Field| {
        let change = replace(field, document.field(field.id), resolved.fields.get(&field.name))?;
        Some(FieldEdit { field: field.id, change })
    };
    settled.filter_map(edit).collect()
}

/// A law that a resolver breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Asked twice, it gave two answers.
    #[error("asked twice about {siblings:?} it gave two answers")]
    Pure {
        /// What it was asked about.
        siblings: Vec<ConflictSibling>,
    },
    /// Siblings of one value resolved to another.
    #[error("siblings that all hold {value:?} resolved to {outcome:?}")]
    Agreement {
        /// Their value.
        value: Option<Value>,
        /// What it resolved to.
        outcome: Option<Value>,
    },
    /// What it resolved to resolves to something else.
    #[error("{outcome:?}, to which it resolved, alone resolved to {next:?}")]
    Settled {
        /// What it resolved to.
        outcome: Option<Value>,
        /// What that resolved to.
        next: Option<Value>,
    },
    /// It resolved to a value of another type.
    #[error("{siblings:?} resolved to {outcome:?}, which is of another type")]
    Type {
        /// What it was asked about.
        siblings: Vec<ConflictSibling>,
        /// What it resolved to.
        outcome: Value,
    },
}

/// Checks a resolver for fields of type `ty` on every choice of one to three of `values`, in every order of stamps. `None` is a clear.
///
/// # Errors
/// The first law that it breaks. A resolver that panics breaks totality by doing so.
pub fn check(resolver: &dyn Resolver, ty: &FieldType, values: &[Option<Value>], stamps: &[Stamp; 3]) -> Result<(), Broken> {
    let ask = |values: &[&Option<Value>]| {
        let siblings = values.iter().zip(stamps).map(|(value, stamp)| ConflictSibling { stamp: *stamp, value: (*value).clone() });
        let siblings: Vec<_> = siblings.collect();
        let outcome = resolver.resolve(&siblings);
        match &outcome {
            _ if resolver.resolve(&siblings) != outcome => Err(Broken::Pure { siblings }),
            Some(value) if !ty.takes(value) => Err(Broken::Type { siblings, outcome: value.clone() }),
            _ => Ok(outcome),
        }
    };
    for first in values {
        for many in [&[first][..], &[first, first], &[first; 3]] {
            let outcome = ask(many)?;
            if outcome != *first {
                return Err(Broken::Agreement { value: first.clone(), outcome });
            }
        }
        for second in values {
            for outcome in [ask(&[first, second])?]
                .into_iter()
                .chain(values.iter().map(|third| ask(&[first, second, third])).collect::<Result<Vec<_>, _>>()?)
            {
                let next = ask(&[&outcome])?;
                if next != outcome {
                    return Err(Broken::Settled { outcome, next });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        document::Dot,
        edit::{Change, Edit, Operation},
        id::ChainId,
        json::schema_from_json,
        schema::ScalarType,
        testutil::{Herd, create, key, set, update},
        time::Time,
        value::Scalar,
    };

    fn stamps() -> [Stamp; 3] {
        [1, 2, 3].map(|at| Stamp { time: Time::from_millis(at), dot: Dot { chain: ChainId([7; 16]), counter: at, index: 0 } })
    }

    fn longest(siblings: &[ConflictSibling]) -> Option<Value> {
        let len = |value: &Value| if let Value::Scalar(Scalar::String(text)) = value { text.len() } else { 0 };
        siblings.iter().filter_map(|sibling| sibling.value.clone()).max_by_key(len)
    }

    #[test]
    fn the_kit_passes_a_lawful_resolver_and_names_the_law_that_another_breaks() {
        let (ty, values) = (FieldType::from(ScalarType::String), [None, Some("a".into()), Some("bcd".into())]);
        let test = |resolver: &dyn Resolver| check(resolver, &ty, &values, &stamps());
        assert_eq!(test(&longest), Ok(()));
        assert!(matches!(test(&|_: &[ConflictSibling]| Some(Value::from(1))), Err(Broken::Type { .. })));
        assert!(matches!(test(&|_: &[ConflictSibling]| None), Err(Broken::Agreement { .. })));
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let moody = |_: &[ConflictSibling]| calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2).then(|| "a".into());
        assert!(matches!(test(&moody), Err(Broken::Pure { .. })));
        let joined = |siblings: &[ConflictSibling]| {
            let differ = siblings.iter().any(|sibling| sibling.value != siblings[0].value);
            if differ { Some("both".into()) } else { siblings[0].value.clone().filter(|value| *value != Value::from("both")) }
        };
        assert!(matches!(test(&joined), Err(Broken::Settled { .. })));
    }

    #[test]
    fn who_has_the_resolver_reads_its_outcome_and_one_commit_of_it_resolves_for_all() {
        let text =
            r#"{"version": 1, "collections": {"notes": {"fields": [{"name": "owner", "type": "string", "policy": "custom:longest"}]}}}"#;
        let schema = Arc::new(schema_from_json(text).expect("valid"));
        let (notes, owner) = (&schema.collections[0], schema.collections[0].fields[0].id);
        let mut herd = Herd::under(2, schema.clone());
        herd.commit(0, [(notes.id, create("a", [set(owner, "eve")]))]);
        herd.converge();
        herd.commit(0, [(notes.id, update("a", [set(owner, "alice")]))]);
        herd.commit(1, [(notes.id, update("a", [set(owner, "bob")]))]);
        herd.converge();
        let resolvers = Resolvers::default().with(ResolverName::new("longest").expect("a name"), longest);
        let document = herd.replicas[0].document(notes.id, "a").expect("there");
        let plain = document.view(notes).expect("alive");
        assert_eq!((plain.fields["owner"].clone(), plain.conflicts.len()), ("bob".into(), 1));
        let resolved = document.view_with(notes, &resolvers).expect("alive");
        assert_eq!((resolved.fields["owner"].clone(), resolved.conflicts.len()), ("alice".into(), 0));
        assert!(document.has_conflict(notes));
        let fields = resolutions(&document, notes, &resolvers);
        assert_eq!(fields, [FieldEdit { field: owner, change: Change::Set("alice".into()) }]);
        herd.commit(1, [(notes.id, Edit { key: key("a"), operation: Operation::Update(fields) })]);
        herd.converge();
        let view = herd.replicas[0].view(notes.id, "a").expect("alive");
        assert_eq!((view.fields["owner"].clone(), view.conflicts.len()), ("alice".into(), 0));
    }
}
