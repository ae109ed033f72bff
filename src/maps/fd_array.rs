//! Arrays that hold other objects: program arrays, arrays of maps, and those whose elements are files of other
//! kinds, which are not emulated.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpftwin_uapi::Errno;

use super::{Map, Result};
use crate::kernel::objects::Program;

/// What an element refers to.
#[derive(Clone)]
pub enum Element {
    Prog(Arc<Program>),
    Map(Arc<Map>),
}

impl Element {
    /// Id that a lookup shows: `map_fd_sys_lookup_elem`.
    pub fn id(&self) -> u32 {
        match self {
            Element::Prog(program) => program.id(),
            Element::Map(map) => map.id(),
        }
    }
}

/// Elements that are set.
#[derive(Default)]
pub struct FdArray {
    elements: Mutex<BTreeMap<u32, Element>>,
}

impl FdArray {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Element>> {
        self.elements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `bpf_fd_array_map_lookup_elem`.
    pub fn lookup(&self, index: u32) -> Result<u32> {
        self.lock().get(&index).map(Element::id).ok_or(Errno::ENOENT)
    }

    /// `bpf_fd_array_map_update_elem` once the element is known.
    pub fn set(&self, index: u32, element: Element) {
        let old = self.lock().insert(index, element);
        // What it was may have been the last reference to this very map.
        drop(old);
    }

    /// `__fd_array_map_delete_elem`.
    pub fn delete(&self, index: u32) -> Result<()> {
        let old = self.lock().remove(&index);
        old.map(drop).ok_or(Errno::ENOENT)
    }

    /// `bpf_fd_array_map_clear`.
    pub fn clear(&self) {
        let old = std::mem::take(&mut *self.lock());
        drop(old);
    }
}
