//! The emulated bpffs: an in-memory tree of directories and pins, below the place where it is mounted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bpftwin_uapi::Errno;

use super::objects::Object;

/// Where the emulated bpffs is mounted.
pub const BPFFS_ROOT: &str = "/sys/fs/bpf";

/// Longest name of a file: `NAME_MAX`.
const NAME_MAX: usize = 255;

/// A node of the tree.
#[derive(Clone)]
pub enum Node {
    Dir,
    Pin(Object),
}

/// A node and its metadata.
#[derive(Clone)]
pub struct Inode {
    pub node: Node,
    /// Inode number; the root's is 1.
    pub ino: u64,
    /// Permission bits.
    pub mode: u32,
}

struct Tree {
    nodes: BTreeMap<PathBuf, Inode>,
    next_ino: u64,
}

/// The tree. Paths that it takes are absolute and without links; `.` and `..` are resolved as text.
pub struct Pins {
    tree: RwLock<Tree>,
}

impl Default for Pins {
    fn default() -> Self {
        let root = Inode { node: Node::Dir, ino: 1, mode: 0o1777 };
        Pins { tree: RwLock::new(Tree { nodes: BTreeMap::from([(BPFFS_ROOT.into(), root)]), next_ino: 2 }) }
    }
}

/// Resolves `.`, `..` and double slashes of an absolute path.
pub fn normalize(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean
}

/// Whether a normalised path is the emulated bpffs or in it.
pub fn is_in_bpffs(path: &Path) -> bool {
    path.starts_with(BPFFS_ROOT)
}

/// `bpf_lookup`: what looking up a name that is not there gives. Names with dots are reserved for the kernel's own
/// files.
fn bpf_lookup(name: &OsStr) -> Errno {
    if name.as_encoded_bytes().contains(&b'.') {
        Errno::EPERM
    } else if name.len() > NAME_MAX {
        Errno::ENAMETOOLONG
    } else {
        Errno::ENOENT
    }
}

impl Tree {
    /// The directory that `path` would be made in; the rules of `bpf_lookup` and of a path walk.
    fn check_new(&self, path: &Path) -> Result<(), Errno> {
        // The mount point itself is there, whatever its parent is.
        if self.nodes.contains_key(path) {
            return Err(Errno::EEXIST);
        }
        self.check_walk(path.parent().ok_or(Errno::EEXIST)?)?;
        let name = path.file_name().ok_or(Errno::EEXIST)?;
        match bpf_lookup(name) {
            Errno::ENOENT => Ok(()),
            error => Err(error),
        }
    }

    /// Every component of `dir` must be a directory.
    fn check_walk(&self, dir: &Path) -> Result<(), Errno> {
        match self.get(dir)?.node {
            Node::Dir => Ok(()),
            Node::Pin(_) => Err(Errno::ENOTDIR),
        }
    }

    fn get(&self, path: &Path) -> Result<&Inode, Errno> {
        if let Some(inode) = self.nodes.get(path) {
            return Ok(inode);
        }
        // The first missing component decides.
        let nearest = path
            .ancestors()
            .filter(|ancestor| is_in_bpffs(ancestor))
            .find(|ancestor| self.nodes.contains_key(*ancestor));
        match nearest.and_then(|ancestor| self.nodes.get(ancestor)) {
            Some(Inode { node: Node::Pin(_), .. }) => Err(Errno::ENOTDIR),
            Some(_) => {
                let depth = nearest.map_or(0, |ancestor| ancestor.components().count());
                match path.components().nth(depth) {
                    Some(Component::Normal(name)) => Err(bpf_lookup(name)),
                    _ => Err(Errno::ENOENT),
                }
            }
            None => Err(Errno::ENOENT),
        }
    }

    fn insert(&mut self, path: PathBuf, node: Node, mode: u32) {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(path, Inode { node, ino, mode });
    }

    fn children<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a Path, &'a Inode)> {
        self.nodes
            .range(dir.to_path_buf()..)
            .skip(1)
            .take_while(move |(path, _)| path.starts_with(dir))
            .filter(move |(path, _)| path.parent() == Some(dir))
            .map(|(path, inode)| (path.as_path(), inode))
    }
}

impl Pins {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Tree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a new file can be made at a path.
    pub fn check_new(&self, path: &Path) -> Result<(), Errno> {
        self.read().check_new(path)
    }

    /// Pins an object: the tail of `bpf_obj_do_pin`.
    pub fn pin(&self, path: &Path, object: Object) -> Result<(), Errno> {
        let mut tree = self.write();
        tree.check_new(path)?;
        tree.insert(path.to_path_buf(), Node::Pin(object), 0o600);
        Ok(())
    }

    /// The object pinned at a path: `EACCES` for what is no pin.
    pub fn get(&self, path: &Path) -> Result<Object, Errno> {
        match &self.read().get(path)?.node {
            Node::Pin(object) => Ok(object.clone()),
            Node::Dir => Err(Errno::EACCES),
        }
    }

    /// The node at a path, as for stat(2).
    pub fn stat(&self, path: &Path) -> Result<Inode, Errno> {
        self.read().get(path).cloned()
    }

    /// mkdir(2).
    pub fn mkdir(&self, path: &Path, mode: u32) -> Result<(), Errno> {
        let mut tree = self.write();
        tree.check_new(path)?;
        tree.insert(path.to_path_buf(), Node::Dir, mode & 0o1777);
        Ok(())
    }

    /// unlink(2).
    pub fn unlink(&self, path: &Path) -> Result<(), Errno> {
        let removed = {
            let mut tree = self.write();
            if let Node::Dir = tree.get(path)?.node {
                return Err(Errno::EISDIR);
            }
            tree.nodes.remove(path)
        };
        // The last reference may go with it, which must not happen under the lock.
        drop(removed);
        Ok(())
    }

    /// rmdir(2).
    pub fn rmdir(&self, path: &Path) -> Result<(), Errno> {
        const ENOTEMPTY: Errno = Errno(39);
        let mut tree = self.write();
        tree.check_walk(path)?;
        if path == Path::new(BPFFS_ROOT) {
            return Err(Errno::EBUSY);
        }
        if tree.children(path).next().is_some() {
            return Err(ENOTEMPTY);
        }
        tree.nodes.remove(path);
        Ok(())
    }

    /// rename(2) of a pin or directory within the tree, without flags.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        let replaced = {
            let mut tree = self.write();
            tree.get(from)?;
            if from == to {
                return Ok(());
            }
            match tree.check_new(to) {
                Ok(()) => {}
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(error),
            }
            if to.starts_with(from) {
                return Err(Errno::EINVAL);
            }
            let replaced = match (&tree.get(from)?.node, tree.nodes.get(to).map(|inode| &inode.node)) {
                (_, None) => None,
                (Node::Pin(_), Some(Node::Pin(_))) => tree.nodes.remove(to),
                (Node::Pin(_), Some(Node::Dir)) => return Err(Errno::EISDIR),
                (Node::Dir, Some(Node::Pin(_))) => return Err(Errno::ENOTDIR),
                (Node::Dir, Some(Node::Dir)) if tree.children(to).next().is_some() => return Err(Errno(39)),
                (Node::Dir, Some(Node::Dir)) => tree.nodes.remove(to),
            };
            let moved: Vec<PathBuf> =
                tree.nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
            for old in moved {
                if let (Ok(rest), Some(inode)) = (old.strip_prefix(from), tree.nodes.remove(&old)) {
                    let new = if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) };
                    tree.nodes.insert(new, inode);
                }
            }
            replaced
        };
        drop(replaced);
        Ok(())
    }

    /// Names in a directory, sorted, and their nodes.
    pub fn list(&self, dir: &Path) -> Result<Vec<(String, Inode)>, Errno> {
        let tree = self.read();
        tree.check_walk(dir)?;
        let entries = tree.children(dir).filter_map(|(path, inode)| {
            Some((path.file_name()?.to_string_lossy().into_owned(), inode.clone()))
        });
        Ok(entries.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_walks() {
        let pins = Pins::default();
        let dir = Path::new("/sys/fs/bpf/a");
        assert_eq!(pins.mkdir(dir, 0o755), Ok(()));
        assert_eq!(pins.mkdir(dir, 0o755), Err(Errno::EEXIST));
        assert_eq!(pins.mkdir(&dir.join("b/c"), 0o755), Err(Errno::ENOENT));
        assert_eq!(pins.mkdir(&dir.join("b.c"), 0o755), Err(Errno::EPERM));
        assert_eq!(pins.mkdir(&dir.join("b"), 0o755), Ok(()));
        assert_eq!(pins.rmdir(dir).unwrap_err().0, 39);
        assert_eq!(pins.get(dir).err(), Some(Errno::EACCES));
        assert_eq!(pins.list(dir).unwrap().len(), 1);
        assert_eq!(pins.rename(dir, Path::new("/sys/fs/bpf/z")), Ok(()));
        assert!(pins.stat(Path::new("/sys/fs/bpf/z/b")).is_ok());
        assert_eq!(pins.stat(dir).err(), Some(Errno::ENOENT));
    }

    #[test]
    fn paths() {
        assert_eq!(normalize(Path::new("/sys//fs/./bpf/x/../y")), Path::new("/sys/fs/bpf/y"));
        assert!(is_in_bpffs(Path::new("/sys/fs/bpf")) && !is_in_bpffs(Path::new("/sys/fs/bpfx")));
    }
}
