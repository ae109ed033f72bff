//! Ids of kernel objects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Largest id plus one, as given to `idr_alloc_cyclic`: `INT_MAX`.
const END: u32 = i32::MAX as u32;

/// The live objects of one kind by id: `map_idr` and its likes. It does not keep them alive; an object gives its
/// id back when its last reference goes, by dropping its [`Id`].
pub struct IdTable<T> {
    inner: Arc<Mutex<Inner<T>>>,
}

struct Inner<T> {
    live: BTreeMap<u32, Weak<T>>,
    /// Where the search for the next free id starts.
    next: u32,
}

/// An object's own id; returns it when dropped.
pub struct Id {
    id: u32,
    release: Box<dyn Fn(u32) + Send + Sync>,
}

impl Id {
    /// The number.
    pub fn get(&self) -> u32 {
        self.id
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        (self.release)(self.id);
    }
}

fn lock<T>(inner: &Mutex<Inner<T>>) -> MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + Sync + 'static> IdTable<T> {
    /// An empty table whose first id will be `first`.
    pub fn new(first: u32) -> Self {
        IdTable { inner: Arc::new(Mutex::new(Inner { live: BTreeMap::new(), next: first })) }
    }

    /// Makes an object that has the next free id, counting upwards and wrapping around at `INT_MAX`.
    /// `None` when all ids are taken.
    pub fn insert(&self, make: impl FnOnce(Id) -> T) -> Option<Arc<T>> {
        let id = {
            let mut inner = lock(&self.inner);
            let start = inner.next.max(1);
            let id = (start..END).chain(1..start).find(|id| !inner.live.contains_key(id))?;
            // A placeholder keeps the id taken while the object is being made.
            inner.live.insert(id, Weak::new());
            inner.next = if id + 1 >= END { 1 } else { id + 1 };
            id
        };
        Some(self.fill(id, make))
    }

    /// Makes an object that has this id, if it is free; the cycle of ids goes on as before.
    pub fn insert_at(&self, id: u32, make: impl FnOnce(Id) -> T) -> Option<Arc<T>> {
        {
            let mut inner = lock(&self.inner);
            if inner.live.contains_key(&id) {
                return None;
            }
            inner.live.insert(id, Weak::new());
        }
        Some(self.fill(id, make))
    }

    fn fill(&self, id: u32, make: impl FnOnce(Id) -> T) -> Arc<T> {
        let table = Arc::downgrade(&self.inner);
        let release = Box::new(move |id| {
            if let Some(inner) = table.upgrade() {
                lock(&inner).live.remove(&id);
            }
        });
        let object = Arc::new(make(Id { id, release }));
        lock(&self.inner).live.insert(id, Arc::downgrade(&object));
        object
    }

    /// The live object with this id.
    pub fn get(&self, id: u32) -> Option<Arc<T>> {
        // The guard is gone before a last reference could be dropped, which takes the lock itself.
        let weak = lock(&self.inner).live.get(&id).cloned();
        weak?.upgrade()
    }

    /// The smallest id of a live object at or above `id`: `idr_get_next`.
    pub fn next_from(&self, id: u32) -> Option<u32> {
        lock(&self.inner).live.range(id..).find(|(_, object)| object.strong_count() != 0).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing {
        id: Id,
    }

    #[test]
    fn ids_count_up_and_come_back() {
        let table = IdTable::new(1);
        let first = table.insert(|id| Thing { id }).unwrap();
        let second = table.insert(|id| Thing { id }).unwrap();
        assert_eq!((first.id.get(), second.id.get()), (1, 2));
        drop(first);
        assert!(table.get(1).is_none());
        assert_eq!(table.next_from(1), Some(2));
        let third = table.insert(|id| Thing { id }).unwrap();
        assert_eq!(third.id.get(), 3, "cyclic: a freed id is not used again at once");
        assert!(Arc::ptr_eq(&table.get(3).unwrap(), &third));
        assert_eq!(table.next_from(4), None);
    }
}
