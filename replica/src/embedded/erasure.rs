//! Erasure for the application that founded its repository, and what takes erased values off the disk.

use herdbook_model::{
    authority::{Kind, REASON_ERASED, Void},
    value::Key,
};
use herdbook_store::Durability;
use herdbook_sync::acceptance::MAX_VOIDS;

use super::{Replica, builder, founding};
use crate::{
    error::Error,
    repository::{Collected, Collecting},
};

impl Replica {
    /// Erases what a document ever had in its erasable fields, or in one of them, from states and history, for good. The next [`collect`](Self::collect)
    /// takes it off the disk. Commits what waits first. Returns how many values that were.
    ///
    /// Cost: as [`Repository::erasing`](crate::Repository::erasing), and the replay of all branches.
    ///
    /// # Errors
    /// [`builder::Error::NotFoundedHere`] where a coordinator holds the authority: it erases; [`Error::NotErasable`], [`Error::Schema`], the store's.
    pub fn erase(&self, collection: &str, key: &str, field: Option<&str>) -> Result<u64, builder::Error> {
        let folder = self.founded.as_deref().ok_or(builder::Error::NotFoundedHere)?;
        self.core.capture()?;
        let repository = self.repository();
        let (view, key) = (repository.view(), Key::new(key).map_err(Error::from)?);
        let erasing = repository.erasing(&view, self.core.branch(), collection, &key, field)?;
        let branch = view.state(self.core.branch())?.branch().clone();
        for ask in erasing.asks {
            repository.commit_one(ask, Durability::Durable)?;
        }
        for requests in erasing.requests.chunks(MAX_VOIDS) {
            let heads = repository.view().log.branch(&branch).ok_or(Error::NoSchema)?.heads.clone();
            let voids = requests.iter().map(|request| Void { request: *request, reason: REASON_ERASED.to_owned() }).collect();
            founding::append(repository, folder, Kind::Head { branch: branch.clone(), heads, root: None, voids })?;
        }
        Ok(erasing.values)
    }

    /// Removes what no state needs any more from the store, and gives its room back; readers and writers go on. A replica that joined others does so by
    /// itself when it is worth while.
    ///
    /// # Errors
    /// As [`Repository::collect`](crate::Repository::collect).
    pub fn collect(&self) -> Result<Collected, Error> {
        self.repository().collect(Collecting::default(), |_| ())
    }
}
