//! Migrations: declared steps from one schema to the next.
//!
//! Numbers of fields stay, so a rename changes no document, a field that is added is filled by its default when read, and one that is
//! dropped is passed over in replay. Law: the state of the new branch is the replay of the old branch's commits under the new schema.

use std::sync::Arc;

use crate::{
    schema::{BLOBS, Error, Field, FieldId, FieldType, Policy, Schema},
    value::Scalar,
};

/// One declared step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A field is added; readers see the default until somebody writes it.
    Add {
        /// Collection.
        collection: String,
        /// Name of the new field.
        field: String,
        /// Type.
        ty: FieldType,
        /// Policy.
        policy: Policy,
        /// Default.
        default: Option<Scalar>,
    },
    /// A field gets another name.
    Rename {
        /// Collection.
        collection: String,
        /// Name so far.
        from: String,
        /// Name from here on.
        to: String,
    },
    /// A field is dropped: the new version neither shows nor keeps it.
    Drop {
        /// Collection.
        collection: String,
        /// Name.
        field: String,
    },
}

/// Returns the schema after `steps`, with the next version number.
///
/// # Errors
/// [`Error::BadStep`] names the first step that cannot be taken and why.
pub fn migrate(schema: &Schema, steps: &[Step]) -> Result<Schema, Error> {
    let mut next = schema.clone();
    next.version += 1;
    for (at, step) in steps.iter().enumerate() {
        take(&mut next, step)
            .and_then(|()| {
                next.add_blobs();
                next.validate()
            })
            .map_err(|error| Error::BadStep { step: at + 1, reason: error.to_string() })?;
    }
    Ok(next)
}

fn take(schema: &mut Schema, step: &Step) -> Result<(), Error> {
    let (Step::Add { collection: name, .. } | Step::Rename { collection: name, .. } | Step::Drop { collection: name, .. }) = step;
    let id = schema.collection(name)?.id;
    if id == BLOBS {
        return Err(Error::BadBlobs);
    }
    let collection = schema.collections.iter_mut().find(|collection| collection.id == id).expect("it was just found by name");
    match step {
        Step::Add { field, ty, policy, default, .. } => {
            let id = FieldId(collection.next_field);
            let Some(next) = collection.next_field.checked_add(1) else { return Err(Error::BadName { name: field.clone() }) };
            collection.next_field = next;
            collection.fields.push(Field { default: default.clone(), ..Field::new(id, field.as_str(), ty.clone(), *policy) });
        }
        Step::Rename { from, to, .. } => {
            let id = collection.field(from)?.id;
            let field = collection.fields.iter_mut().find(|field| field.id == id).expect("it was just found by name");
            field.name = Arc::from(to.as_str());
        }
        Step::Drop { field, .. } => {
            let id = collection.field(field)?.id;
            collection.fields.retain(|field| field.id != id);
        }
    }
    Ok(())
}
