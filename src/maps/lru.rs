//! Which element an LRU hash map gives up when it is full: `kernel/bpf/bpf_lru_list.c`.
//!
//! A map has one list of active, inactive and free nodes, and each CPU has a list of free nodes at hand and one of nodes
//! that it handed out lately. With `BPF_F_NO_COMMON_LRU` each CPU has a list of its own instead. Nodes live in an
//! arena; list heads are nodes of it.

use bpftwin_uapi::attr::BPF_F_NO_COMMON_LRU;

use super::MapAttrs;

const LOCAL_FREE_TARGET: u32 = 128;
const PERCPU_FREE_TARGET: u32 = 4;

/// The list that a node is on: `enum bpf_lru_list_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Active,
    Inactive,
    Free,
    LocalFree,
    LocalPending,
}

struct Node {
    prev: u32,
    next: u32,
    cpu: u32,
    kind: Kind,
    referenced: bool,
    key: Box<[u8]>,
}

/// `struct bpf_lru_list`. The heads of its lists are at `head + kind`.
struct List {
    head: u32,
    active: u32,
    inactive: u32,
    next_inactive_rotation: u32,
    /// Free nodes that were never used, behind those on the free list.
    unused: u32,
    cpu: u32,
}

/// `struct bpf_lru_locallist`: the free list's head is at `head`, the pending list's behind it.
struct Local {
    head: u32,
    next_steal: u32,
}

/// The nodes of one map.
pub struct Lru {
    nodes: Vec<Node>,
    lists: Vec<List>,
    /// Empty where each CPU has its own list.
    locals: Vec<Local>,
    nr_scans: u32,
    target_free: u32,
}

/// CPU that runs the calling thread.
fn current_cpu() -> u32 {
    // SAFETY: it has no preconditions.
    u32::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

impl Lru {
    /// All nodes free: `bpf_lru_init`, `bpf_lru_populate`.
    pub fn new(attrs: &MapAttrs, possible_cpus: u32) -> Self {
        let cpus = possible_cpus.max(1);
        let percpu = attrs.map_flags & BPF_F_NO_COMMON_LRU != 0;
        let mut lru = Lru {
            nodes: Vec::new(),
            lists: Vec::new(),
            locals: Vec::new(),
            nr_scans: if percpu { PERCPU_FREE_TARGET } else { LOCAL_FREE_TARGET },
            target_free: (attrs.max_entries / cpus / 2).clamp(1, LOCAL_FREE_TARGET),
        };
        if percpu {
            (0..cpus).for_each(|cpu| lru.add_list(cpu, attrs.max_entries / cpus));
        } else {
            lru.add_list(0, attrs.max_entries);
            for cpu in 0..cpus {
                let head = lru.add_head();
                lru.add_head();
                lru.locals.push(Local { head, next_steal: cpu });
            }
        }
        lru
    }

    fn add_list(&mut self, cpu: u32, unused: u32) {
        let head = self.add_head();
        let inactive_head = self.add_head();
        self.add_head();
        self.lists.push(List {
            head,
            active: 0,
            inactive: 0,
            next_inactive_rotation: inactive_head,
            unused,
            cpu,
        });
    }

    fn add_head(&mut self) -> u32 {
        let at = self.nodes.len() as u32;
        self.nodes.push(Node {
            prev: at,
            next: at,
            cpu: 0,
            kind: Kind::Free,
            referenced: false,
            key: Box::default(),
        });
        at
    }

    /// Remembers which element a node stands for.
    pub fn set_key(&mut self, node: u32, key: &[u8]) {
        self.node(node).key = key.into();
    }

    /// `bpf_lru_node_set_ref`.
    pub fn set_ref(&mut self, node: u32) {
        self.node(node).referenced = true;
    }

    /// `bpf_lru_pop_free`: a node for a new element. `evict` takes the element of a node out of the map, and says
    /// whether it was there.
    pub fn pop_free(&mut self, mut evict: impl FnMut(&[u8], u32) -> bool) -> Option<u32> {
        if self.locals.is_empty() {
            self.percpu_pop_free(&mut evict)
        } else {
            self.common_pop_free(&mut evict)
        }
    }

    /// `bpf_lru_push_free`.
    pub fn push_free(&mut self, node: u32) {
        let (kind, cpu) = (self.node(node).kind, self.node(node).cpu);
        if kind == Kind::LocalPending {
            let free = self.locals[cpu as usize % self.locals.len()].head;
            self.node(node).kind = Kind::LocalFree;
            self.node(node).referenced = false;
            self.relink(node, free);
        } else if matches!(kind, Kind::Active | Kind::Inactive) {
            let list = if self.locals.is_empty() { cpu as usize % self.lists.len() } else { 0 };
            self.node_move(list, node, Kind::Free);
        }
    }

    fn node(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    fn next(&self, node: u32) -> u32 {
        self.nodes[node as usize].next
    }

    fn prev(&self, node: u32) -> u32 {
        self.nodes[node as usize].prev
    }

    fn unlink(&mut self, node: u32) {
        let (prev, next) = (self.prev(node), self.next(node));
        self.node(prev).next = next;
        self.node(next).prev = prev;
        self.node(node).prev = node;
        self.node(node).next = node;
    }

    /// `list_move`: to the front of the list.
    fn relink(&mut self, node: u32, head: u32) {
        self.unlink(node);
        let first = self.next(head);
        self.node(node).prev = head;
        self.node(node).next = first;
        self.node(first).prev = node;
        self.node(head).next = node;
    }

    /// Head of one of a list's lists.
    fn head(&self, list: usize, kind: Kind) -> u32 {
        self.lists[list].head + kind as u32
    }

    fn count(&mut self, list: usize, kind: Kind, change: i32) {
        let list = &mut self.lists[list];
        match kind {
            Kind::Active => list.active = list.active.wrapping_add_signed(change),
            Kind::Inactive => list.inactive = list.inactive.wrapping_add_signed(change),
            _ => {}
        }
    }

    /// The rotation goes on where it stood when its candidate leaves.
    fn step_rotation(&mut self, list: usize, node: u32) {
        if self.lists[list].next_inactive_rotation == node {
            self.lists[list].next_inactive_rotation = self.prev(node);
        }
    }

    /// `__bpf_lru_node_move`, and `__bpf_lru_node_move_in` for a node of a local list.
    fn node_move(&mut self, list: usize, node: u32, to: Kind) {
        let from = self.node(node).kind;
        if from != to {
            self.count(list, from, -1);
            self.count(list, to, 1);
            self.node(node).kind = to;
        }
        self.node(node).referenced = false;
        self.step_rotation(list, node);
        let head = self.head(list, to);
        self.relink(node, head);
    }

    /// `__bpf_lru_node_move_to_free`.
    fn node_move_to_free(&mut self, list: usize, node: u32, head: u32, kind: Kind) {
        self.step_rotation(list, node);
        let from = self.node(node).kind;
        self.count(list, from, -1);
        self.node(node).kind = kind;
        self.relink(node, head);
    }

    /// `__bpf_lru_list_rotate`.
    fn rotate(&mut self, list: usize) {
        if self.lists[list].inactive < self.lists[list].active {
            self.rotate_active(list);
        }
        self.rotate_inactive(list);
    }

    /// `__bpf_lru_list_rotate_active`.
    fn rotate_active(&mut self, list: usize) {
        let head = self.head(list, Kind::Active);
        let first = self.next(head);
        let mut node = self.prev(head);
        let mut scanned = 0;
        while node != head {
            let before = self.prev(node);
            let to = if self.node(node).referenced { Kind::Active } else { Kind::Inactive };
            self.node_move(list, node, to);
            scanned += 1;
            if scanned == self.nr_scans || node == first {
                break;
            }
            node = before;
        }
    }

    /// `__bpf_lru_list_rotate_inactive`.
    fn rotate_inactive(&mut self, list: usize) {
        let head = self.head(list, Kind::Inactive);
        if self.next(head) == head {
            return;
        }
        let start = self.lists[list].next_inactive_rotation;
        let mut last = self.next(start);
        if last == head {
            last = self.next(last);
        }
        let mut current = start;
        let mut next = head;
        let mut scanned = 0;
        while scanned < self.nr_scans {
            if current == head {
                current = self.prev(current);
                continue;
            }
            next = self.prev(current);
            if self.node(current).referenced {
                self.node_move(list, current, Kind::Active);
            }
            if current == last {
                break;
            }
            current = next;
            scanned += 1;
        }
        self.lists[list].next_inactive_rotation = next;
    }

    fn evict(&mut self, node: u32, evict: &mut impl FnMut(&[u8], u32) -> bool) -> bool {
        evict(&self.nodes[node as usize].key, node)
    }

    /// `__bpf_lru_list_shrink`.
    fn shrink(
        &mut self,
        list: usize,
        target: u32,
        free: u32,
        kind: Kind,
        evict: &mut impl FnMut(&[u8], u32) -> bool,
    ) {
        if self.shrink_inactive(list, target, free, kind, evict) != 0 {
            return;
        }
        // Nothing unreferenced is left: take the oldest whatever it is.
        let inactive = self.head(list, Kind::Inactive);
        let head = if self.next(inactive) != inactive { inactive } else { self.head(list, Kind::Active) };
        let mut node = self.prev(head);
        while node != head {
            let before = self.prev(node);
            if self.evict(node, evict) {
                self.node_move_to_free(list, node, free, kind);
                return;
            }
            node = before;
        }
    }

    /// `__bpf_lru_list_shrink_inactive`.
    fn shrink_inactive(
        &mut self,
        list: usize,
        target: u32,
        free: u32,
        kind: Kind,
        evict: &mut impl FnMut(&[u8], u32) -> bool,
    ) -> u32 {
        let head = self.head(list, Kind::Inactive);
        let mut node = self.prev(head);
        let (mut shrunk, mut scanned) = (0, 0);
        while node != head {
            let before = self.prev(node);
            if self.node(node).referenced {
                self.node_move(list, node, Kind::Active);
            } else if self.evict(node, evict) {
                self.node_move_to_free(list, node, free, kind);
                shrunk += 1;
                if shrunk == target {
                    break;
                }
            }
            scanned += 1;
            if scanned == self.nr_scans {
                break;
            }
            node = before;
        }
        shrunk
    }

    /// The first node of a list's free list, which may be one that was never used.
    fn first_free(&mut self, list: usize) -> Option<u32> {
        let head = self.head(list, Kind::Free);
        let first = self.next(head);
        if first != head {
            return Some(first);
        }
        let unused = &mut self.lists[list].unused;
        *unused = unused.checked_sub(1)?;
        let cpu = self.lists[list].cpu;
        let node = self.add_head();
        self.node(node).cpu = cpu;
        self.relink(node, head);
        Some(node)
    }

    /// `bpf_percpu_lru_pop_free`.
    fn percpu_pop_free(&mut self, evict: &mut impl FnMut(&[u8], u32) -> bool) -> Option<u32> {
        let list = current_cpu() as usize % self.lists.len();
        self.rotate(list);
        let mut node = self.first_free(list);
        if node.is_none() {
            let free = self.head(list, Kind::Free);
            self.shrink(list, PERCPU_FREE_TARGET, free, Kind::Free, evict);
            node = self.first_free(list);
        }
        let node = node?;
        self.node_move(list, node, Kind::Inactive);
        Some(node)
    }

    /// `bpf_common_lru_pop_free`.
    fn common_pop_free(&mut self, evict: &mut impl FnMut(&[u8], u32) -> bool) -> Option<u32> {
        let cpu = current_cpu() as usize % self.locals.len();
        let mut node = self.local_pop_free(cpu);
        if node.is_none() {
            self.pop_free_to_local(cpu, evict);
            node = self.local_pop_free(cpu);
        }
        if node.is_none() {
            let first_steal = self.locals[cpu].next_steal as usize;
            let mut steal = first_steal;
            loop {
                node = self.local_pop_free(steal).or_else(|| self.local_pop_pending(steal, evict));
                steal = (steal + 1) % self.locals.len();
                if node.is_some() || steal == first_steal {
                    break;
                }
            }
            self.locals[cpu].next_steal = steal as u32;
        }
        let node = node?;
        let pending = self.locals[cpu].head + 1;
        *self.node(node) = Node {
            cpu: cpu as u32,
            kind: Kind::LocalPending,
            referenced: false,
            prev: node,
            next: node,
            key: Box::default(),
        };
        self.relink(node, pending);
        Some(node)
    }

    /// `__local_list_pop_free`.
    fn local_pop_free(&mut self, cpu: usize) -> Option<u32> {
        let head = self.locals[cpu].head;
        let first = self.next(head);
        if first == head {
            return None;
        }
        self.unlink(first);
        Some(first)
    }

    /// `__local_list_pop_pending`.
    fn local_pop_pending(&mut self, cpu: usize, evict: &mut impl FnMut(&[u8], u32) -> bool) -> Option<u32> {
        let head = self.locals[cpu].head + 1;
        for force in [false, true] {
            let mut node = self.prev(head);
            while node != head {
                let before = self.prev(node);
                if (!self.node(node).referenced || force) && self.evict(node, evict) {
                    self.unlink(node);
                    return Some(node);
                }
                node = before;
            }
        }
        None
    }

    /// `bpf_lru_list_pop_free_to_local`.
    fn pop_free_to_local(&mut self, cpu: usize, evict: &mut impl FnMut(&[u8], u32) -> bool) {
        let local_free = self.locals[cpu].head;
        self.local_list_flush(cpu);
        self.rotate(0);
        let mut free = 0;
        while free < self.target_free {
            let Some(node) = self.first_free(0) else { break };
            self.node_move_to_free(0, node, local_free, Kind::LocalFree);
            free += 1;
        }
        if free < self.target_free {
            self.shrink(0, self.target_free - free, local_free, Kind::LocalFree, evict);
        }
    }

    /// `__local_list_flush`.
    fn local_list_flush(&mut self, cpu: usize) {
        let head = self.locals[cpu].head + 1;
        let mut node = self.prev(head);
        while node != head {
            let before = self.prev(node);
            let to = if self.node(node).referenced { Kind::Active } else { Kind::Inactive };
            self.node_move(0, node, to);
            node = before;
        }
    }
}
