//! Terms of BCF: a typed arena with one node for each distinct term.
//!
//! The arena keeps nodes in the layout of the wire (`struct bcf_expr`: a header word, then argument words), so a node's id
//! is the index of its header word. Nodes are hash-consed: two terms are structurally equal exactly when their ids are. Arguments
//! stand before the node that uses them, so ids ascend from leaves to roots, which makes every bottom-up computation a plain loop.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use bpftwin_uapi::bcf::*;
use bytemuck::{Pod, Zeroable};
use hashbrown::HashTable;

/// Id of a node: the word index of its header in the [`Arena`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct ExprId(pub u32);

/// Most arguments that a node, and most premises or parameters that a step can have.
pub const MAX_ARGS: usize = u8::MAX as usize;
/// Widest constant in bits.
pub const MAX_CONST_WIDTH: u8 = 64;

/// An operator: its code, its name in the checker's term syntax, and how many arguments it takes.
pub struct Op {
    pub code: u8,
    pub name: &'static str,
    pub min_args: u8,
    pub max_args: u8,
    /// The name in SMT-LIB, where one symbol says it all; indexed operators, constants and variables have none.
    pub smt: Option<&'static str>,
}

const fn op(code: u8, name: &'static str, min_args: u8, max_args: u8, smt: Option<&'static str>) -> Op {
    Op { code, name, min_args, max_args, smt }
}

/// Every operator of the format.
pub const OPS: &[Op] = &[
    op(BCF_BV_ADD, "bv_add", 2, 255, Some("bvadd")),
    op(BCF_BV_SUB, "bv_sub", 2, 2, Some("bvsub")),
    op(BCF_BV_MUL, "bv_mul", 2, 255, Some("bvmul")),
    op(BCF_BV_UDIV, "bv_div", 2, 2, Some("bvudiv")),
    op(BCF_BV_OR, "bv_or", 2, 255, Some("bvor")),
    op(BCF_BV_AND, "bv_and", 2, 255, Some("bvand")),
    op(BCF_BV_SHL, "bv_lsh", 2, 2, Some("bvshl")),
    op(BCF_BV_LSHR, "bv_rsh", 2, 2, Some("bvlshr")),
    op(BCF_BV_NEG, "bv_neg", 1, 1, Some("bvneg")),
    op(BCF_BV_UREM, "bv_mod", 2, 2, Some("bvurem")),
    op(BCF_BV_XOR, "bv_xor", 2, 255, Some("bvxor")),
    op(BCF_BV_SDIV, "bv_sdiv", 2, 2, Some("bvsdiv")),
    op(BCF_BV_ASHR, "bv_arsh", 2, 2, Some("bvashr")),
    op(BCF_BV_SMOD, "bv_smod", 2, 2, Some("bvsmod")),
    op(BCF_BV_CONST, "bv_val", 1, 2, None),
    op(BCF_BV_VAR, "bv_var", 0, 0, None),
    op(BCF_BV_ITE, "bv_ite", 3, 3, Some("ite")),
    op(BCF_BV_EXTRACT, "bv_extract", 1, 1, None),
    op(BCF_BV_SIGN_EXTEND, "bv_sign_extend", 1, 1, None),
    op(BCF_BV_ZERO_EXTEND, "bv_zero_extend", 1, 1, None),
    op(BCF_BV_SIZE, "bv_bvsize", 1, 1, None),
    op(BCF_BV_NOT, "bv_not", 1, 1, Some("bvnot")),
    op(BCF_BV_FROM_BOOL, "bv_from_bool", 1, 255, None),
    op(BCF_BV_CONCAT, "bv_concat", 2, 255, Some("concat")),
    op(BCF_BV_REPEAT, "bv_repeat", 1, 1, None),
    op(BCF_BOOL_CONST, "bool_val", 0, 0, None),
    op(BCF_BOOL_VAR, "bool_var", 0, 0, None),
    op(BCF_BOOL_ITE, "bool_ite", 3, 3, Some("ite")),
    op(BCF_BOOL_AND, "bool_conj", 2, 255, Some("and")),
    op(BCF_BOOL_OR, "bool_disj", 2, 255, Some("or")),
    op(BCF_BOOL_XOR, "bool_xor", 2, 255, Some("xor")),
    op(BCF_BOOL_NOT, "bool_not", 1, 1, Some("not")),
    op(BCF_BOOL_IMPLIES, "bool_implies", 2, 2, Some("=>")),
    op(BCF_BOOL_BIT_OF, "bool_bitof", 1, 1, None),
    op(BCF_BOOL_EQ, "bool_eq", 2, 2, Some("=")),
    op(BCF_BOOL_DISTINCT, "bool_distinct", 2, 2, Some("distinct")),
    op(BCF_BOOL_UGT, "bool_ugt", 2, 2, Some("bvugt")),
    op(BCF_BOOL_UGE, "bool_uge", 2, 2, Some("bvuge")),
    op(BCF_BOOL_ULT, "bool_ult", 2, 2, Some("bvult")),
    op(BCF_BOOL_ULE, "bool_ule", 2, 2, Some("bvule")),
    op(BCF_BOOL_SGT, "bool_sgt", 2, 2, Some("bvsgt")),
    op(BCF_BOOL_SGE, "bool_sge", 2, 2, Some("bvsge")),
    op(BCF_BOOL_SLT, "bool_slt", 2, 2, Some("bvslt")),
    op(BCF_BOOL_SLE, "bool_sle", 2, 2, Some("bvsle")),
    op(BCF_LIST_VAL, "list_val", 0, 255, None),
];

const NO_OP: u8 = u8::MAX;

/// Index into [`OPS`] by code.
const OP_INDEX: [u8; 256] = {
    let mut index = [NO_OP; 256];
    let mut i = 0;
    while i < OPS.len() {
        index[OPS[i].code as usize] = i as u8;
        i += 1;
    }
    index
};

/// The operator with this code, if the format has one.
pub fn op_of(code: u8) -> Option<&'static Op> {
    OPS.get(OP_INDEX[code as usize] as usize)
}

/// Why a node is not well typed (`type_check` of the published checker; always EINVAL there).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TypeError {
    #[error("no operator has this code")]
    Code,
    #[error("wrong number of arguments")]
    Arity,
    #[error("reserved bits of the parameters are set, or an index is out of range")]
    Params,
    #[error("a bit-vector of width 0, or wider than allowed, or not of the width that its arguments give")]
    Width,
    #[error("an argument has the wrong type")]
    Argument,
    #[error("an argument is not the id of an earlier node")]
    Reference,
    #[error("a node reaches over the end of the expressions")]
    Truncated,
}

/// A bad expression area: what is wrong, and with the node at which word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expression {at}: {error}")]
pub struct ExprError {
    pub at: u32,
    pub error: TypeError,
}

/// Which node of the arena stands for each node of a file's expression area.
///
/// Where the file has the same term twice, both map to the first.
#[derive(Clone, Default, Debug)]
pub struct IdMap(Vec<u32>);

/// Not a node's header.
const NO_NODE: u32 = u32::MAX;

impl IdMap {
    /// The node for a raw id of the file; `None` when no node starts at that word.
    #[inline]
    pub fn get(&self, raw: u32) -> Option<ExprId> {
        self.0.get(raw as usize).copied().filter(|&id| id != NO_NODE).map(ExprId)
    }

    /// Words of the file's expression area.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file's raw ids with their nodes, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, ExprId)> + '_ {
        (0..).zip(&self.0).filter(|&(_, &id)| id != NO_NODE).map(|(raw, &id)| (raw, ExprId(id)))
    }
}

/// Terms, one node each.
#[derive(Clone)]
pub struct Arena {
    words: Vec<u32>,
    table: HashTable<ExprId>,
    keys: HashKeys,
    true_id: ExprId,
    false_id: ExprId,
}

impl Default for Arena {
    fn default() -> Self {
        Arena::new()
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena of {} words, {} terms", self.words.len(), self.table.len())
    }
}

fn header(code: u8, params: u16, vlen: usize) -> u32 {
    u32::from(code) | (vlen as u32) << 8 | u32::from(params) << 16
}

/// Keys of [`hash_node`], which differ from run to run: files that are made to collide do not.
type HashKeys = [u64; 2];

static HASH_KEYS: LazyLock<HashKeys> = LazyLock::new(|| [0, 1].map(|i| RandomState::new().hash_one(i)));

/// Hash of a node: multiplications that are folded to 64 bits, one for two arguments.
#[inline]
fn hash_node(keys: HashKeys, header: u32, args: &[u32]) -> u64 {
    let fold = |hash: u64, words: u64| {
        let product = u128::from(hash ^ words) * u128::from(keys[1] | 1);
        product as u64 ^ (product >> 64) as u64
    };
    let mut hash = fold(keys[0], header.into());
    let mut pairs = args.chunks_exact(2);
    for pair in &mut pairs {
        hash = fold(hash, u64::from(pair[0]) | u64::from(pair[1]) << 32);
    }
    for &arg in pairs.remainder() {
        hash = fold(hash, arg.into());
    }
    hash
}

/// The node's words: header and arguments. `id` must be a node's.
#[inline]
fn node_words(words: &[u32], id: ExprId) -> &[u32] {
    let at = id.0 as usize;
    let len = 1 + (words[at] >> 8 & 0xff) as usize;
    &words[at..at + len]
}

impl Arena {
    /// An arena with `true` and `false` in it.
    pub fn new() -> Arena {
        let mut arena = Arena::over(Vec::new());
        arena.add_truths();
        arena
    }

    /// An arena whose nodes stand in `words` and are yet to be entered.
    fn over(words: Vec<u32>) -> Arena {
        let table = HashTable::with_capacity(words.len() / 2);
        Arena { words, table, keys: *HASH_KEYS, true_id: ExprId(NO_NODE), false_id: ExprId(NO_NODE) }
    }

    fn add_truths(&mut self) {
        self.true_id = self.insert(BCF_BOOL_CONST, 1, &[]);
        self.false_id = self.insert(BCF_BOOL_CONST, 0, &[]);
    }

    /// Reads an expression area: every node is type-checked, may refer to earlier nodes only, and the nodes must fill the
    /// area. Nodes keep their places, so that the id of a term is the id of the first node of the file that says it.
    ///
    /// # Errors
    /// The first bad node (the published checker answers EINVAL).
    pub fn parse(words: &[u32]) -> Result<(Arena, IdMap), ExprError> {
        // Rules will make more terms.
        let mut nodes = Vec::with_capacity(words.len() * 3 / 2);
        nodes.extend_from_slice(words);
        let mut arena = Arena::over(nodes);
        let mut map = vec![NO_NODE; words.len()];
        let mut at = 0;
        while at < words.len() {
            let error = |error| ExprError { at: at as u32, error };
            let end = at + 1 + (words[at] >> 8 & 0xff) as usize;
            if end > words.len() {
                return Err(error(TypeError::Truncated));
            }
            let head: BcfExpr = bytemuck::cast(words[at]);
            if head.code != BCF_BV_CONST {
                for arg in &mut arena.words[at + 1..end] {
                    let id = map.get(*arg as usize).copied().unwrap_or(NO_NODE);
                    if id == NO_NODE {
                        return Err(error(TypeError::Reference));
                    }
                    *arg = id;
                }
            }
            let node = &arena.words[at..end];
            arena.type_check(head.code, head.params, &node[1..]).map_err(error)?;
            map[at] = arena.place(at).0;
            at = end;
        }
        arena.add_truths();
        Ok((arena, IdMap(map)))
    }

    /// The node for the words that stand at `at` already: an earlier one that is equal, or this.
    fn place(&mut self, at: usize) -> ExprId {
        let new = ExprId(at as u32);
        let node = node_words(&self.words, new);
        if is_variable(node[0] as u8) {
            return new;
        }
        let (words, keys) = (&self.words, self.keys);
        let hash = hash_node(keys, node[0], &node[1..]);
        match self.table.entry(
            hash,
            |&id| node_words(words, id) == node,
            |&id| {
                let node = node_words(words, id);
                hash_node(keys, node[0], &node[1..])
            },
        ) {
            hashbrown::hash_table::Entry::Occupied(entry) => *entry.get(),
            hashbrown::hash_table::Entry::Vacant(entry) => *entry.insert(new).get(),
        }
    }

    /// The node with this header and these argument words, made if there is none. Nothing is checked.
    fn insert(&mut self, code: u8, params: u16, args: &[u32]) -> ExprId {
        let at = self.words.len();
        self.words.push(header(code, params, args.len()));
        self.words.extend_from_slice(args);
        let id = self.place(at);
        if id.0 as usize != at {
            self.words.truncate(at);
        }
        id
    }

    /// Makes a node, or finds the one that is equal.
    ///
    /// # Errors
    /// When it is not well typed. `args` must be ids of this arena.
    pub fn add(&mut self, code: u8, params: u16, args: &[ExprId]) -> Result<ExprId, TypeError> {
        let args: &[u32] = bytemuck::cast_slice(args);
        if code == BCF_BV_CONST {
            return Err(TypeError::Argument);
        }
        self.type_check(code, params, args)?;
        Ok(self.insert(code, params, args))
    }

    /// Makes a node that is well typed by construction, or finds the one that is equal.
    #[inline]
    pub fn intern(&mut self, code: u8, params: u16, args: &[ExprId]) -> ExprId {
        debug_assert_eq!(self.type_check(code, params, bytemuck::cast_slice(args)), Ok(()));
        self.insert(code, params, bytemuck::cast_slice(args))
    }

    /// The node that is equal to this, if there is one.
    pub fn find(&self, code: u8, params: u16, args: &[ExprId]) -> Option<ExprId> {
        let args: &[u32] = bytemuck::cast_slice(args);
        let header = header(code, params, args.len());
        let hash = hash_node(self.keys, header, args);
        self.table
            .find(hash, |&id| {
                let node = node_words(&self.words, id);
                node[0] == header && node[1..] == *args
            })
            .copied()
    }

    /// A fresh bit-vector variable; `width` must not be 0.
    pub fn bv_var(&mut self, width: u8) -> ExprId {
        self.insert(BCF_BV_VAR, width.max(1).into(), &[])
    }

    /// A fresh Boolean variable.
    pub fn bool_var(&mut self) -> ExprId {
        self.insert(BCF_BOOL_VAR, 0, &[])
    }

    /// A constant of 1 to 64 bits; bits of `value` above `width` are dropped.
    pub fn bv_const(&mut self, width: u8, value: u64) -> ExprId {
        let width = width.clamp(1, MAX_CONST_WIDTH);
        let value = value & low_mask(width);
        let words = [value as u32, (value >> 32) as u32];
        self.insert(BCF_BV_CONST, width.into(), &words[..usize::from(width).div_ceil(32)])
    }

    pub fn truth(&self, value: bool) -> ExprId {
        if value { self.true_id } else { self.false_id }
    }

    /// `not x`; `x` must be Boolean.
    #[inline]
    pub fn not(&mut self, x: ExprId) -> ExprId {
        self.intern(BCF_BOOL_NOT, 0, &[x])
    }

    /// `x = y`; both must be of one type.
    #[inline]
    pub fn eq(&mut self, x: ExprId, y: ExprId) -> ExprId {
        self.intern(BCF_BOOL_EQ, 0, &[x, y])
    }

    #[inline]
    pub fn head(&self, id: ExprId) -> BcfExpr {
        bytemuck::cast(self.words[id.0 as usize])
    }

    /// Type and operation.
    #[inline]
    pub fn code(&self, id: ExprId) -> u8 {
        self.words[id.0 as usize] as u8
    }

    /// `BCF_BV`, `BCF_BOOL` or `BCF_LIST`.
    #[inline]
    pub fn kind(&self, id: ExprId) -> u8 {
        self.code(id) & 7
    }

    #[inline]
    pub fn is_bool(&self, id: ExprId) -> bool {
        self.kind(id) == BCF_BOOL
    }

    #[inline]
    pub fn is_bv(&self, id: ExprId) -> bool {
        self.kind(id) == BCF_BV
    }

    /// The arguments that are terms; none for a constant.
    #[inline]
    pub fn args(&self, id: ExprId) -> &[ExprId] {
        let node = node_words(&self.words, id);
        if node[0] as u8 == BCF_BV_CONST { &[] } else { bytemuck::cast_slice(&node[1..]) }
    }

    /// The arguments if the node has this code and exactly `N` of them.
    #[inline]
    pub fn match_op<const N: usize>(&self, id: ExprId, code: u8) -> Option<[ExprId; N]> {
        if self.code(id) == code { self.args(id).try_into().ok() } else { None }
    }

    /// Header and arguments as on the wire, ids being this arena's.
    pub fn words(&self, id: ExprId) -> &[u32] {
        node_words(&self.words, id)
    }

    /// Words of all nodes: a bound on ids.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Bits of a bit-vector, 1 to 255; 0 for what is none.
    #[inline]
    pub fn width(&self, id: ExprId) -> u8 {
        if self.is_bv(id) { bv_width(self.head(id)) } else { 0 }
    }

    /// The value of a bit-vector constant.
    #[inline]
    pub fn bv_value(&self, id: ExprId) -> Option<u64> {
        match *node_words(&self.words, id) {
            [head, low] if head as u8 == BCF_BV_CONST => Some(low.into()),
            [head, low, high] if head as u8 == BCF_BV_CONST => Some(u64::from(high) << 32 | u64::from(low)),
            _ => None,
        }
    }

    /// The value of a Boolean constant.
    #[inline]
    pub fn bool_value(&self, id: ExprId) -> Option<bool> {
        let head = self.head(id);
        (head.code == BCF_BOOL_CONST).then_some(head.params & 1 != 0)
    }

    pub fn is_variable(&self, id: ExprId) -> bool {
        is_variable(self.code(id))
    }

    /// All that `roots` reach, ascending, so arguments come before their users.
    pub fn reachable(&self, roots: &[ExprId]) -> Vec<ExprId> {
        let mut seen = rustc_hash::FxHashSet::default();
        let mut stack: Vec<ExprId> = roots.to_vec();
        while let Some(id) = stack.pop() {
            if seen.insert(id) {
                stack.extend(self.args(id));
            }
        }
        let mut all: Vec<ExprId> = seen.into_iter().collect();
        all.sort_unstable();
        all
    }

    fn same_type(&self, x: ExprId, y: ExprId) -> bool {
        self.kind(x) == self.kind(y) && self.kind(x) != BCF_LIST && self.width(x) == self.width(y)
    }

    /// Whether a node with this header and these argument words is well typed. Arguments of all but constants must be ids of this arena.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn type_check(&self, code: u8, params: u16, args: &[u32]) -> Result<(), TypeError> {
        let op = op_of(code).ok_or(TypeError::Code)?;
        if args.len() < op.min_args.into() || args.len() > op.max_args.into() {
            return Err(TypeError::Arity);
        }
        match code & 7 {
            BCF_BV if code == BCF_BV_CONST => check_const(params, args),
            BCF_BV => self.type_check_bv(code, params, bytemuck::cast_slice(args)),
            BCF_BOOL => self.type_check_bool(code, params, bytemuck::cast_slice(args)),
            _ => self.type_check_list(params, bytemuck::cast_slice(args)),
        }
    }

    fn type_check_bv(&self, code: u8, params: u16, args: &[ExprId]) -> Result<(), TypeError> {
        let (low, high) = (params as u8, (params >> 8) as u8);
        let width = match code {
            BCF_BV_FROM_BOOL => {
                require(params == 0, TypeError::Params)?;
                return require(args.iter().all(|&arg| self.is_bool(arg)), TypeError::Argument);
            }
            BCF_BV_EXTRACT => {
                let arg = self.bv_arg(args)?;
                return require(high >= low && high < arg, TypeError::Params);
            }
            _ => low,
        };
        require(width != 0, TypeError::Width)?;
        match code {
            BCF_BV_SIGN_EXTEND | BCF_BV_ZERO_EXTEND => {
                let arg = self.bv_arg(args)?;
                return require(u16::from(arg) + u16::from(high) == u16::from(width), TypeError::Width);
            }
            BCF_BV_REPEAT => {
                let arg = self.bv_arg(args)?;
                return require(u16::from(arg) * u16::from(high) == u16::from(width), TypeError::Width);
            }
            _ => require(high == 0, TypeError::Params)?,
        }
        match code {
            BCF_BV_ITE => {
                let [cond, then, other] = *args else { return Err(TypeError::Arity) };
                require(self.is_bool(cond) || self.width(cond) == 1, TypeError::Argument)?;
                require(self.width(then) == width && self.width(other) == width, TypeError::Argument)
            }
            BCF_BV_SIZE => {
                let arg = self.bv_arg(args)?;
                require(width >= 8 || arg <= low_mask(width) as u8, TypeError::Width)
            }
            BCF_BV_CONCAT => {
                let mut sum = 0u32;
                for &arg in args {
                    require(self.is_bv(arg), TypeError::Argument)?;
                    sum += u32::from(self.width(arg));
                }
                require(sum == u32::from(width), TypeError::Width)
            }
            _ => require(args.iter().all(|&arg| self.width(arg) == width), TypeError::Argument),
        }
    }

    /// Width of the one argument, which must be a bit-vector.
    fn bv_arg(&self, args: &[ExprId]) -> Result<u8, TypeError> {
        match args {
            &[arg] if self.is_bv(arg) => Ok(self.width(arg)),
            _ => Err(TypeError::Argument),
        }
    }

    fn type_check_bool(&self, code: u8, params: u16, args: &[ExprId]) -> Result<(), TypeError> {
        match code {
            BCF_BOOL_CONST => return require(params <= 1, TypeError::Params),
            BCF_BOOL_BIT_OF => {
                let width = self.bv_arg(args)?;
                return require(params < width.into(), TypeError::Params);
            }
            _ => require(params == 0, TypeError::Params)?,
        }
        let well_typed = match code {
            BCF_BOOL_EQ | BCF_BOOL_DISTINCT => {
                let [x, y] = *args else { return Err(TypeError::Arity) };
                self.same_type(x, y)
            }
            BCF_BOOL_UGT | BCF_BOOL_UGE | BCF_BOOL_ULT | BCF_BOOL_ULE | BCF_BOOL_SGT | BCF_BOOL_SGE
            | BCF_BOOL_SLT | BCF_BOOL_SLE => {
                let [x, y] = *args else { return Err(TypeError::Arity) };
                self.is_bv(x) && self.same_type(x, y)
            }
            _ => args.iter().all(|&arg| self.is_bool(arg)),
        };
        require(well_typed, TypeError::Argument)
    }

    fn type_check_list(&self, params: u16, args: &[ExprId]) -> Result<(), TypeError> {
        require(params == u16::from(BCF_BV) || params == u16::from(BCF_BOOL), TypeError::Params)?;
        require(args.iter().all(|&arg| u16::from(self.kind(arg)) == params), TypeError::Argument)
    }
}

fn require(holds: bool, error: TypeError) -> Result<(), TypeError> {
    if holds { Ok(()) } else { Err(error) }
}

fn check_const(params: u16, words: &[u32]) -> Result<(), TypeError> {
    let width = params as u8;
    require(params >> 8 == 0, TypeError::Params)?;
    require((1..=MAX_CONST_WIDTH).contains(&width), TypeError::Width)?;
    require(usize::from(width).div_ceil(32) == words.len(), TypeError::Arity)?;
    let value = words.iter().rev().fold(0u64, |value, &word| value << 32 | u64::from(word));
    require(value & !low_mask(width) == 0, TypeError::Argument)
}

/// Variables are told apart by their node, never merged.
pub fn is_variable(code: u8) -> bool {
    code == BCF_BV_VAR || code == BCF_BOOL_VAR
}

/// The width that a bit-vector node's header tells.
#[inline]
pub fn bv_width(head: BcfExpr) -> u8 {
    match head.code {
        BCF_BV_EXTRACT => head.params_high() - head.params_low() + 1,
        BCF_BV_FROM_BOOL => head.vlen,
        _ => head.params_low(),
    }
}

/// `width` ones, for widths up to 64.
pub fn low_mask(width: u8) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(code: u8, vlen: u8, params: u16) -> u32 {
        header(code, params, vlen.into())
    }

    #[test]
    fn equal_terms_are_one_node_and_variables_are_not() {
        let words = [
            head(BCF_BV_VAR, 0, 8),
            head(BCF_BV_VAR, 0, 8),
            head(BCF_BV_NOT, 1, 8),
            0,
            head(BCF_BV_NOT, 1, 8),
            0,
        ];
        let (mut arena, map) = Arena::parse(&words).expect("well typed");
        assert_ne!(map.get(0), map.get(1));
        assert_eq!(map.get(2), map.get(4));
        assert_eq!(map.get(3), None);
        let x = map.get(0).expect("a node");
        assert_eq!(Some(arena.intern(BCF_BV_NOT, 8, &[x])), map.get(2));
        let (a, b) = (arena.bv_const(40, 7), arena.bv_const(40, 7 | 1 << 40));
        assert_eq!((a, arena.bv_value(a)), (b, Some(7)));
    }

    #[test]
    fn bad_areas_are_told_apart() {
        let var = head(BCF_BV_VAR, 0, 8);
        let cases: &[(&[u32], TypeError)] = &[
            (&[0x07], TypeError::Code),
            (&[head(BCF_BV_VAR, 0, 0)], TypeError::Width),
            (&[head(BCF_BV_NOT, 1, 8)], TypeError::Truncated),
            (&[head(BCF_BV_NOT, 1, 8), 0], TypeError::Reference),
            (&[var, head(BCF_BV_NOT, 1, 8), 1], TypeError::Reference),
            (&[var, head(BCF_BV_NOT, 1, 9), 0], TypeError::Argument),
            (&[var, head(BCF_BV_ADD, 1, 8), 0], TypeError::Arity),
            (&[var, head(BCF_BV_EXTRACT, 1, 0x0800), 0], TypeError::Params),
            (&[var, head(BCF_BV_ZERO_EXTEND, 1, 0x0209), 0], TypeError::Width),
            (&[var, head(BCF_BOOL_NOT, 1, 0), 0], TypeError::Argument),
            (&[head(BCF_BV_CONST, 1, 8), 0x100], TypeError::Argument),
            (&[head(BCF_BV_CONST, 2, 8), 1, 0], TypeError::Arity),
            (&[head(BCF_BV_CONST, 2, 65), 1, 0], TypeError::Width),
            (&[head(BCF_BOOL_CONST, 0, 2)], TypeError::Params),
            (&[head(BCF_LIST_VAL, 0, 2)], TypeError::Params),
        ];
        for (words, error) in cases {
            assert_eq!(Arena::parse(words).map(|_| ()).map_err(|e| e.error), Err(*error), "{words:x?}");
        }
    }
}
