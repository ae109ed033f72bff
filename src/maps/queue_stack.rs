//! Queues and stacks: `kernel/bpf/queue_stack_maps.c`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bpftwin_uapi::attr::{BPF_EXIST, BPF_NOEXIST};
use bpftwin_uapi::{Errno, MapType};

use super::{MapAttrs, Result};

/// Values, oldest first.
#[derive(Default)]
pub struct QueueStack {
    values: Mutex<VecDeque<Box<[u8]>>>,
}

impl QueueStack {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Box<[u8]>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `queue_stack_map_push_elem`. With `BPF_EXIST` the oldest value makes room.
    pub fn push(&self, attrs: &MapAttrs, value: &[u8], flags: u64) -> Result<()> {
        if flags & BPF_NOEXIST != 0 || flags > BPF_EXIST {
            return Err(Errno::EINVAL);
        }
        let mut values = self.lock();
        if values.len() >= attrs.max_entries as usize {
            if flags & BPF_EXIST == 0 {
                return Err(Errno::E2BIG);
            }
            values.pop_front();
        }
        values.push_back(value.into());
        Ok(())
    }

    /// `map_peek_elem`, or `map_pop_elem` where `delete` is set.
    pub fn get(&self, attrs: &MapAttrs, value: &mut [u8], delete: bool) -> Result<()> {
        let mut values = self.lock();
        let queue = attrs.map_type == MapType::Queue;
        let found = if queue { values.front() } else { values.back() };
        value.copy_from_slice(found.ok_or(Errno::ENOENT)?);
        if delete {
            if queue {
                values.pop_front()
            } else {
                values.pop_back()
            };
        }
        Ok(())
    }
}
