//! Longest-prefix-match tries: `kernel/bpf/lpm_trie.c`.
//!
//! A key is a prefix length in bits and that many bits of data, most significant first. Each node of the tree is more
//! specific than its parent; the next bit of its data tells which child it is. Where two entries part with none
//! that covers both, an intermediate node without an entry stands, which always has two children.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{BPF_EXIST, BPF_NOEXIST};

use super::{MapAttrs, Result};

/// Bytes of a key's prefix length.
const PREFIX_BYTES: usize = 4;

struct Node {
    children: [Option<Box<Node>>; 2],
    prefixlen: u32,
    data: Box<[u8]>,
    /// `None` for an intermediate node.
    value: Option<Box<[u8]>>,
}

#[derive(Default)]
struct Tree {
    root: Option<Box<Node>>,
    len: u32,
}

/// A trie.
#[derive(Default)]
pub struct LpmTrie {
    tree: Mutex<Tree>,
}

/// A key, taken apart.
#[derive(Clone, Copy)]
struct Key<'a> {
    prefixlen: u32,
    data: &'a [u8],
}

impl<'a> Key<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self> {
        let (prefixlen, data) = bytes.split_first_chunk::<PREFIX_BYTES>().ok_or(Errno::EINVAL)?;
        Ok(Key { prefixlen: u32::from_ne_bytes(*prefixlen), data })
    }

    /// `max_prefixlen` of the trie that the key is of.
    fn max_prefixlen(&self) -> u32 {
        self.data.len() as u32 * 8
    }

    fn is_valid(&self) -> bool {
        self.prefixlen <= self.max_prefixlen()
    }
}

/// `extract_bit`
fn bit(data: &[u8], index: u32) -> usize {
    let byte = data.get(index as usize / 8).copied().unwrap_or(0);
    usize::from(byte >> (7 - index % 8) & 1)
}

impl Node {
    /// `longest_prefix_match`: leading bits in which the node and the key agree.
    fn matching(&self, key: Key<'_>) -> u32 {
        let limit = self.prefixlen.min(key.prefixlen);
        let mut agreed = 0;
        for (a, b) in self.data.iter().zip(key.data) {
            let diff = a ^ b;
            agreed += diff.leading_zeros();
            if diff != 0 || agreed >= limit {
                break;
            }
        }
        agreed.min(limit)
    }

    fn is_intermediate(&self) -> bool {
        self.value.is_none()
    }
}

impl Tree {
    /// `trie_check_add_elem`
    fn check_add(&mut self, attrs: &MapAttrs, flags: u64) -> Result<()> {
        if flags == BPF_EXIST {
            return Err(Errno::ENOENT);
        }
        if self.len == attrs.max_entries {
            return Err(Errno::ENOSPC);
        }
        self.len += 1;
        Ok(())
    }
}

/// The node at which a search for the key ends, and its place: the first that differs from it, is more specific, or is
/// the key itself.
fn find_slot<'a>(root: &'a mut Option<Box<Node>>, key: Key<'_>) -> (&'a mut Option<Box<Node>>, u32) {
    let mut slot = root;
    loop {
        let (matching, next) = match slot.as_deref() {
            None => return (slot, 0),
            Some(node) => {
                let matching = node.matching(key);
                if node.prefixlen != matching || node.prefixlen == key.prefixlen {
                    (matching, None)
                } else {
                    (matching, Some(bit(key.data, node.prefixlen)))
                }
            }
        };
        let Some(next) = next else { return (slot, matching) };
        // The node is there: it was looked at above.
        match slot {
            Some(node) => slot = &mut node.children[next],
            None => return (slot, matching),
        }
    }
}

impl LpmTrie {
    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries in the trie.
    pub fn len(&self) -> u32 {
        self.lock().len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `trie_lookup_elem`: the most specific entry that covers the key.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<()> {
        let key = Key::new(key)?;
        if !key.is_valid() {
            return Err(Errno::ENOENT);
        }
        let tree = self.lock();
        let mut found = None;
        let mut next = tree.root.as_deref();
        while let Some(node) = next {
            let matching = node.matching(key);
            if matching == key.max_prefixlen() {
                found = Some(node);
                break;
            }
            if matching < node.prefixlen {
                break;
            }
            if !node.is_intermediate() {
                found = Some(node);
            }
            next = node.children[bit(key.data, node.prefixlen)].as_deref();
        }
        let stored = found.and_then(|node| node.value.as_deref()).ok_or(Errno::ENOENT)?;
        value.copy_from_slice(stored);
        Ok(())
    }

    /// `trie_update_elem`
    pub fn update(&self, attrs: &MapAttrs, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        let key = Key::new(key)?;
        if flags > BPF_EXIST || !key.is_valid() {
            return Err(Errno::EINVAL);
        }
        let tree = &mut *self.lock();
        let mut root = tree.root.take();
        let result = insert(tree, &mut root, attrs, key, value, flags);
        tree.root = root;
        result
    }

    /// `trie_delete_elem`
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        let key = Key::new(key)?;
        if !key.is_valid() {
            return Err(Errno::EINVAL);
        }
        let tree = &mut *self.lock();
        remove(&mut tree.root, key)?;
        tree.len -= 1;
        Ok(())
    }

    /// `trie_get_next_key`: more specific keys come first, in the order of the tree.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Box<[u8]>> {
        let tree = self.lock();
        let root = tree.root.as_deref().ok_or(Errno::ENOENT)?;
        let key = key.map(Key::new).transpose()?.filter(Key::is_valid);
        let mut path = Vec::new();
        let mut exact = false;
        if let Some(key) = key {
            let mut next = Some(root);
            while let Some(node) = next {
                path.push(node);
                let matching = node.matching(key);
                if node.prefixlen != matching || node.prefixlen == key.prefixlen {
                    exact = node.prefixlen == matching && !node.is_intermediate();
                    break;
                }
                next = node.children[bit(key.data, node.prefixlen)].as_deref();
            }
        }
        if !exact {
            return leftmost(root).ok_or(Errno::ENOENT);
        }
        let mut node = path.pop().ok_or(Errno::ENOENT)?;
        while let Some(parent) = path.pop() {
            if parent.children[0].as_deref().is_some_and(|child| std::ptr::eq(child, node))
                && let Some(sibling) = parent.children[1].as_deref()
            {
                return leftmost(sibling).ok_or(Errno::ENOENT);
            }
            if !parent.is_intermediate() {
                return Ok(key_of(parent));
            }
            node = parent;
        }
        Err(Errno::ENOENT)
    }
}

fn key_of(node: &Node) -> Box<[u8]> {
    let mut key = node.prefixlen.to_ne_bytes().to_vec();
    key.extend_from_slice(&node.data);
    key.into()
}

/// The key of the first entry below a node in postorder.
fn leftmost(root: &Node) -> Option<Box<[u8]>> {
    let mut found = None;
    let mut next = Some(root);
    while let Some(node) = next {
        if !node.is_intermediate() {
            found = Some(node);
        }
        next = node.children[0].as_deref();
        if next.is_none() && !node.is_intermediate() {
            next = node.children[1].as_deref();
        }
    }
    found.map(key_of)
}

fn insert(
    tree: &mut Tree,
    root: &mut Option<Box<Node>>,
    attrs: &MapAttrs,
    key: Key<'_>,
    value: &[u8],
    flags: u64,
) -> Result<()> {
    let mut new = Box::new(Node {
        children: [None, None],
        prefixlen: key.prefixlen,
        data: key.data.into(),
        value: Some(value.into()),
    });
    let (slot, matching) = find_slot(root, key);
    let Some(node) = slot.as_deref_mut() else {
        tree.check_add(attrs, flags)?;
        *slot = Some(new);
        return Ok(());
    };
    if node.prefixlen == matching {
        if node.is_intermediate() {
            tree.check_add(attrs, flags)?;
        } else if flags == BPF_NOEXIST {
            return Err(Errno::EEXIST);
        }
        new.children = std::mem::take(&mut node.children);
        *slot = Some(new);
        return Ok(());
    }
    tree.check_add(attrs, flags)?;
    let Some(node) = slot.take() else { return Ok(()) };
    if matching == key.prefixlen {
        // The new entry covers the node.
        let child = bit(&node.data, matching);
        new.children[child] = Some(node);
        *slot = Some(new);
        return Ok(());
    }
    let mut intermediate =
        Box::new(Node { children: [None, None], prefixlen: matching, data: node.data.clone(), value: None });
    let child = bit(key.data, matching);
    intermediate.children[child] = Some(new);
    intermediate.children[1 - child] = Some(node);
    *slot = Some(intermediate);
    Ok(())
}

fn remove(root: &mut Option<Box<Node>>, key: Key<'_>) -> Result<()> {
    // Walks to the parent first, since an intermediate one may go as well.
    let mut slot = root;
    loop {
        let node = slot.as_deref_mut().ok_or(Errno::ENOENT)?;
        let matching = node.matching(key);
        if node.prefixlen != matching || node.prefixlen == key.prefixlen {
            break;
        }
        let next = bit(key.data, node.prefixlen);
        let child = node.children[next].as_deref().ok_or(Errno::ENOENT)?;
        let leaf = child.children.iter().all(Option::is_none);
        if node.is_intermediate() && leaf && is_entry(child, key) {
            *slot = node.children[1 - next].take();
            return Ok(());
        }
        match slot {
            Some(node) => slot = &mut node.children[next],
            None => return Err(Errno::ENOENT),
        }
    }
    let node = slot.as_deref_mut().ok_or(Errno::ENOENT)?;
    if !is_entry(node, key) {
        return Err(Errno::ENOENT);
    }
    if node.children.iter().all(Option::is_some) {
        node.value = None;
        return Ok(());
    }
    let [left, right] = std::mem::take(&mut node.children);
    *slot = left.or(right);
    Ok(())
}

/// Whether a node is the entry of exactly this key.
fn is_entry(node: &Node, key: Key<'_>) -> bool {
    node.prefixlen == key.prefixlen && node.matching(key) == node.prefixlen && !node.is_intermediate()
}

impl Drop for Tree {
    /// Takes the tree apart in a loop: it may be as deep as a key has bits.
    fn drop(&mut self) {
        let mut rest: Vec<Box<Node>> = self.root.take().into_iter().collect();
        while let Some(mut node) = rest.pop() {
            rest.extend(node.children.iter_mut().filter_map(Option::take));
        }
    }
}
