//! The rewrites: 151 equations between patterns, each true of all terms that fit its parameters and conditions.
//!
//! The names are those of cvc5's rules with capitals. In a pattern, `x0`, `x1`, … are the arguments and `#1` is a number; the
//! indices of `extract`, `sign_extend`, … and both parts of `(bvconst VALUE width=WIDTH)` are integers, written with the
//! bit-vector operators but computed, not built. `(ones width=WIDTH)` is the constant of ones. Each condition after `if` is a
//! premise that a step has to bring, in order. [`pattern`](super::pattern) compiles the texts, [`rewrite`](super::rewrite)
//! applies them.
//!
//! This is the table as the published checker has it, with its flaws; `rewrite` refuses the instances that are false. No
//! instance of `BV_ZERO_EXTEND_EQ_CONST_1` and `_2` is well typed: the extract is one bit wider than the constant beside it.

/// What an argument of a rewrite has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Param {
    /// A Boolean or a bit-vector.
    Any,
    Bool,
    /// A bit-vector of any width.
    Bv,
    /// A bit-vector of width 1.
    Bit,
    /// A bit-vector of width 32. Where the rewrite computes with it, it has to be closed.
    Int,
    /// A list of Booleans, spliced into the operator it stands in.
    Bools,
    /// A list of bit-vectors, likewise.
    Bvs,
}

/// A rewrite as text.
pub struct Entry {
    /// From 1; an entry's place in [`TABLE`] plus 1.
    pub number: u32,
    pub name: &'static str,
    pub params: &'static [Param],
    /// One for each premise.
    pub conditions: &'static [&'static str],
    pub left: &'static str,
    pub right: &'static str,
}

macro_rules! param {
    (any) => {
        Param::Any
    };
    (bool) => {
        Param::Bool
    };
    (bv) => {
        Param::Bv
    };
    (bit) => {
        Param::Bit
    };
    (int) => {
        Param::Int
    };
    (bools) => {
        Param::Bools
    };
    (bvs) => {
        Param::Bvs
    };
}

macro_rules! rewrites {
    ($($number:literal $name:ident($($param:tt),*): $(if $condition:literal)* $left:literal => $right:literal;)*) => {
        $(pub const $name: u32 = $number;)*

        /// All rewrites, ascending by number.
        pub const TABLE: &[Entry] = &[$(Entry {
            number: $number,
            name: stringify!($name),
            params: &[$(param!($param)),*],
            conditions: &[$($condition),*],
            left: $left,
            right: $right,
        }),*];
    };
}

rewrites! {
    1 EQ_REFL(any): "(= x0 x0)" => "true";
    2 EQ_SYMM(any, any): "(= x0 x1)" => "(= x1 x0)";
    3 EQ_COND_DEQ(any, any, any):
        if "(= (= x1 x2) false)"
        "(= (= x0 x1) (= x0 x2))" => "(and (not (= x0 x1)) (not (= x0 x2)))";
    4 EQ_ITE_LIFT(bool, any, any, any): "(= (ite x0 x1 x2) x3)" => "(ite x0 (= x1 x3) (= x2 x3))";
    5 DISTINCT_BINARY_ELIM(any, any): "(distinct x0 x1)" => "(not (= x0 x1))";
    6 ITE_TRUE_COND(any, any): "(ite true x0 x1)" => "x0";
    7 ITE_FALSE_COND(any, any): "(ite false x0 x1)" => "x1";
    8 ITE_NOT_COND(bool, any, any): "(ite (not x0) x1 x2)" => "(ite x0 x2 x1)";
    9 ITE_EQ_BRANCH(bool, any): "(ite x0 x1 x1)" => "x1";
    10 ITE_THEN_LOOKAHEAD(bool, any, any, any): "(ite x0 (ite x0 x1 x2) x3)" => "(ite x0 x1 x3)";
    11 ITE_ELSE_LOOKAHEAD(bool, any, any, any): "(ite x0 x1 (ite x0 x2 x3))" => "(ite x0 x1 x3)";
    12 ITE_THEN_NEG_LOOKAHEAD(bool, any, any, any): "(ite x0 (ite (not x0) x1 x2) x3)" => "(ite x0 x2 x3)";
    13 ITE_ELSE_NEG_LOOKAHEAD(bool, any, any, any): "(ite x0 x1 (ite (not x0) x2 x3))" => "(ite x0 x1 x2)";
    14 BOOL_DOUBLE_NOT_ELIM(bool): "(not (not x0))" => "x0";
    15 BOOL_NOT_TRUE(bool):
        if "(= x0 false)"
        "(not x0)" => "true";
    16 BOOL_NOT_FALSE(bool):
        if "(= x0 true)"
        "(not x0)" => "false";
    17 BOOL_EQ_TRUE(bool): "(= x0 true)" => "x0";
    18 BOOL_EQ_FALSE(bool): "(= x0 false)" => "(not x0)";
    19 BOOL_EQ_NREFL(bool): "(= x0 (not x0))" => "false";
    20 BOOL_IMPL_FALSE1(bool): "(=> x0 false)" => "(not x0)";
    21 BOOL_IMPL_FALSE2(bool): "(=> false x0)" => "true";
    22 BOOL_IMPL_TRUE1(bool): "(=> x0 true)" => "true";
    23 BOOL_IMPL_TRUE2(bool): "(=> true x0)" => "x0";
    24 BOOL_IMPL_ELIM(bool, bool): "(=> x0 x1)" => "(or (not x0) x1)";
    25 BOOL_DUAL_IMPL_EQ(bool, bool): "(and (=> x0 x1) (=> x1 x0))" => "(= x0 x1)";
    26 BOOL_AND_CONF(bools, bool, bools, bools): "(and x0 x1 x2 (not x1) x3)" => "false";
    27 BOOL_AND_CONF2(bools, bool, bools, bools): "(and x0 (not x1) x2 x1 x3)" => "false";
    28 BOOL_OR_TAUT(bools, bool, bools, bools): "(or x0 x1 x2 (not x1) x3)" => "true";
    29 BOOL_OR_TAUT2(bools, bool, bools, bools): "(or x0 (not x1) x2 x1 x3)" => "true";
    30 BOOL_IMPLIES_DE_MORGAN(bool, bool): "(not (=> x0 x1))" => "(and x0 (not x1))";
    31 BOOL_XOR_REFL(bool): "(xor x0 x0)" => "false";
    32 BOOL_XOR_NREFL(bool): "(xor x0 (not x0))" => "true";
    33 BOOL_XOR_FALSE(bool): "(xor x0 false)" => "x0";
    34 BOOL_XOR_TRUE(bool): "(xor x0 true)" => "(not x0)";
    35 BOOL_XOR_COMM(bool, bool): "(xor x0 x1)" => "(xor x1 x0)";
    36 BOOL_XOR_ELIM(bool, bool): "(xor x0 x1)" => "(= (not x0) x1)";
    37 BOOL_NOT_XOR_ELIM(bool, bool): "(not (xor x0 x1))" => "(= x0 x1)";
    38 BOOL_NOT_EQ_ELIM1(bool, bool): "(not (= x0 x1))" => "(= (not x0) x1)";
    39 BOOL_NOT_EQ_ELIM2(bool, bool): "(not (= x0 x1))" => "(= x0 (not x1))";
    40 ITE_NEG_BRANCH(bool, bool, bool):
        if "(= (not x2) x1)"
        "(ite x0 x1 x2)" => "(= x0 x1)";
    41 ITE_THEN_TRUE(bool, bool): "(ite x0 true x1)" => "(or x0 x1)";
    42 ITE_ELSE_FALSE(bool, bool): "(ite x0 x1 false)" => "(and x0 x1)";
    43 ITE_THEN_FALSE(bool, bool): "(ite x0 false x1)" => "(and (not x0) x1)";
    44 ITE_ELSE_TRUE(bool, bool): "(ite x0 x1 true)" => "(or (not x0) x1)";
    45 ITE_THEN_LOOKAHEAD_SELF(bool, bool): "(ite x0 x0 x1)" => "(ite x0 true x1)";
    46 ITE_ELSE_LOOKAHEAD_SELF(bool, bool): "(ite x0 x1 x0)" => "(ite x0 x1 false)";
    47 ITE_THEN_LOOKAHEAD_NOT_SELF(bool, bool): "(ite x0 (not x0) x1)" => "(ite x0 false x1)";
    48 ITE_ELSE_LOOKAHEAD_NOT_SELF(bool, bool): "(ite x0 x1 (not x0))" => "(ite x0 x1 true)";
    49 ITE_EXPAND(bool, bool, bool): "(ite x0 x1 x2)" => "(and (or (not x0) x1) (or x0 x2))";
    50 BOOL_NOT_ITE_ELIM(bool, bool, bool): "(not (ite x0 x1 x2))" => "(ite x0 (not x1) (not x2))";
    51 BV_CONCAT_EXTRACT_MERGE(bvs, bv, bvs, int, int, int, int):
        if "(= x5 (bvadd x4 #1))"
        "(concat x0 ((extract x6 x5) x1) ((extract x4 x3) x1) x2)" => "(concat x0 ((extract x6 x3) x1) x2)";
    52 BV_EXTRACT_EXTRACT(bv, int, int, int, int, int, int):
        if "(= x5 (bvadd x1 x4))"
        if "(= x6 (bvadd x1 x3))"
        "((extract x4 x3) ((extract x2 x1) x0))" => "((extract x5 x6) x0)";
    53 BV_EXTRACT_WHOLE(bv, int):
        if "(bvsge x1 (bvsub (bvsize x0) #1))"
        "((extract x1 #0) x0)" => "x0";
    54 BV_EXTRACT_CONCAT_1(bv, bvs, bv, int, int):
        if "(bvsle x4 (bvsize x0))"
        "((extract x4 x3) (concat x1 x2 x0))" => "((extract x4 x3) x0)";
    55 BV_EXTRACT_CONCAT_2(bv, bvs, bv, int, int, int, int):
        if "(bvslt x3 (bvsize x0))"
        if "(bvsge x4 (bvsize x0))"
        if "(= x5 (bvsub x4 (bvsize x0)))"
        if "(= x6 (bvsub (bvsize x0) #1))"
        "((extract x4 x3) (concat x1 x2 x0))"
        => "(concat ((extract x5 #0) (concat x1 x2)) ((extract x6 x3) x0))";
    56 BV_EXTRACT_CONCAT_3(bv, bv, bvs, int, int, int, int):
        if "(bvsge x3 (bvsize x0))"
        if "(= x5 (bvsub x4 (bvsize x0)))"
        if "(= x6 (bvsub x3 (bvsize x0)))"
        "((extract x4 x3) (concat x2 x1 x0))" => "((extract x5 x6) (concat x2 x1))";
    57 BV_EXTRACT_CONCAT_4(bv, bv, bvs, int, int):
        if "(bvslt x4 (bvsub (bvsize (concat x0 x2 x1)) (bvsize x0)))"
        "((extract x4 x3) (concat x0 x2 x1))" => "((extract x4 x3) (concat x2 x1))";
    58 BV_EQ_EXTRACT_ELIM1(bv, bv, int, int, int, int, int):
        if "(= x4 (bvsub (bvsize x0) #1))"
        if "(= x5 (bvadd x3 #1))"
        if "(= x6 (bvsub x2 #1))"
        if "(bvsgt x4 x3)"
        if "(bvsgt x2 #0)"
        "(= ((extract x3 x2) x0) x1)" => "(= x0 (concat ((extract x4 x5) x0) x1 ((extract x6 #0) x0)))";
    59 BV_EQ_EXTRACT_ELIM2(bv, bv, int, int, int):
        if "(= x3 (bvsub (bvsize x0) #1))"
        if "(= x4 (bvadd x2 #1))"
        if "(bvsgt x3 x2)"
        "(= ((extract x2 #0) x0) x1)" => "(= x0 (concat ((extract x3 x4) x0) x1))";
    60 BV_EQ_EXTRACT_ELIM3(bv, bv, int, int, int):
        if "(= x3 (bvsub (bvsize x0) #1))"
        if "(= x4 (bvsub x2 #1))"
        if "(bvsgt x2 #0)"
        "(= ((extract x3 x2) x0) x1)" => "(= x0 (concat x1 ((extract x4 #0) x0)))";
    61 BV_EXTRACT_NOT(bv, int, int): "((extract x2 x1) (bvnot x0))" => "(bvnot ((extract x2 x1) x0))";
    62 BV_EXTRACT_SIGN_EXTEND_1(bv, int, int, int):
        if "(bvslt x2 (bvsize x0))"
        "((extract x2 x1) ((sign_extend x3) x0))" => "((extract x2 x1) x0)";
    63 BV_EXTRACT_SIGN_EXTEND_2(bv, int, int, int, int, int):
        if "(bvslt x1 (bvsize x0))"
        if "(bvsge x2 (bvsize x0))"
        if "(= x4 (bvsub (bvsize x0) #1))"
        if "(= x5 (bvadd #1 (bvsub x2 (bvsize x0))))"
        "((extract x2 x1) ((sign_extend x3) x0))" => "((sign_extend x5) ((extract x4 x1) x0))";
    64 BV_EXTRACT_SIGN_EXTEND_3(bv, int, int, int, int, int):
        if "(bvsge x1 (bvsize x0))"
        if "(= x4 (bvadd #1 (bvsub x2 x1)))"
        if "(= x5 (bvsub (bvsize x0) #1))"
        "((extract x2 x1) ((sign_extend x3) x0))" => "((repeat x4) ((extract x5 x5) x0))";
    65 BV_NOT_XOR(bv, bv, bvs): "(bvnot (bvxor x0 x1 x2))" => "(bvxor (bvnot x0) x1 x2)";
    66 BV_AND_SIMPLIFY_1(bvs, bvs, bvs, bv, int):
        if "(= x4 (bvsize x3))"
        "(bvand x0 (bvnot x3) x1 x3 x2)" => "(bvconst #0 width=x4)";
    67 BV_AND_SIMPLIFY_2(bvs, bvs, bvs, bv, int):
        if "(= x4 (bvsize x3))"
        "(bvand x0 x3 x1 (bvnot x3) x2)" => "(bvconst #0 width=x4)";
    68 BV_OR_SIMPLIFY_1(bvs, bvs, bvs, bv, int):
        if "(= x4 (bvsize x3))"
        "(bvor x0 (bvnot x3) x1 x3 x2)" => "(bvnot (bvconst #0 width=x4))";
    69 BV_OR_SIMPLIFY_2(bvs, bvs, bvs, bv, int):
        if "(= x4 (bvsize x3))"
        "(bvor x0 x3 x1 (bvnot x3) x2)" => "(bvnot (bvconst #0 width=x4))";
    70 BV_XOR_SIMPLIFY_2(bvs, bvs, bvs, bv): "(bvxor x0 x3 x1 (bvnot x3) x2)" => "(bvnot (bvxor x0 x1 x2))";
    71 BV_XOR_SIMPLIFY_3(bvs, bvs, bvs, bv): "(bvxor x0 (bvnot x3) x1 x3 x2)" => "(bvnot (bvxor x0 x1 x2))";
    72 BV_ULT_ADD_ONE(bv, bvs, bvs, bv, int):
        if "(= x3 (bvconst #1 width=x4))"
        if "(= x4 (bvsize x0))"
        "(bvult x0 (bvadd x1 x3 x2))"
        => "(and (not (= (bvadd x1 x2) (bvnot (bvconst #0 width=x4)))) (not (bvult (bvadd x1 x2) x0)))";
    73 BV_MULT_SLT_MULT_1(bv, bv, bv, int, int, int, int):
        if "(= x5 (bvsize x0))"
        if "(= x6 (bvsize x2))"
        "(bvslt (bvmul ((sign_extend x3) x1) ((sign_extend x4) x2)) (bvmul ((sign_extend x3) x0)
         ((sign_extend x4) x2)))"
        => "(and (not (= (bvsub x1 x0) (bvconst #0 width=x5))) (not (= x2 (bvconst #0 width=x6))) (= (bvslt
            x1 x0) (bvsgt x2 (bvconst #0 width=x6))))";
    74 BV_MULT_SLT_MULT_2(bv, bv, bv, int, int, int, int):
        if "(= x5 (bvsize x0))"
        if "(= x6 (bvsize x2))"
        "(bvslt (bvmul ((zero_extend x3) x1) ((sign_extend x4) x2)) (bvmul ((zero_extend x3) x0)
         ((sign_extend x4) x2)))"
        => "(and (not (= (bvsub x1 x0) (bvconst #0 width=x5))) (not (= x2 (bvconst #0 width=x6))) (= (bvult
            x1 x0) (bvsgt x2 (bvconst #0 width=x6))))";
    75 BV_COMMUTATIVE_XOR(bv, bv): "(bvxor x0 x1)" => "(bvxor x1 x0)";
    76 BV_ZERO_EXTEND_ELIMINATE_0(bv): "((zero_extend #0) x0)" => "x0";
    77 BV_SIGN_EXTEND_ELIMINATE_0(bv): "((sign_extend #0) x0)" => "x0";
    78 BV_NOT_NEQ(bv):
        if "(bvsgt (bvsize x0) #0)"
        "(= x0 (bvnot x0))" => "false";
    79 BV_ULT_ONES(bv, int, int):
        if "(= x1 (ones width=x2))"
        "(bvult x0 (bvconst x1 width=x2))" => "(distinct x0 (bvconst x1 width=x2))";
    80 BV_CONCAT_MERGE_CONST(bvs, int, int, int, int, int, bvs):
        if "(= x5 (bvadd x2 x4))"
        "(concat x0 (bvconst x1 width=x2) (bvconst x3 width=x4) x6)"
        => "(concat x0 (bvconst (bvadd (bvmul x1 (bvshl #1 x4)) x3) width=x5) x6)";
    81 BV_COMMUTATIVE_ADD(bv, bv): "(bvadd x0 x1)" => "(bvadd x1 x0)";
    82 BV_SUB_ELIMINATE(bv, bv): "(bvsub x0 x1)" => "(bvadd x0 (bvneg x1))";
    83 BV_ITE_WIDTH_ONE(bv):
        "(ite (= x0 (bvconst #1 width=#1)) (bvconst #1 width=#1) (bvconst #0 width=#1))" => "x0";
    84 BV_ITE_WIDTH_ONE_NOT(bv):
        "(ite (= x0 (bvconst #0 width=#1)) (bvconst #1 width=#1) (bvconst #0 width=#1))" => "(bvnot x0)";
    85 BV_EQ_XOR_SOLVE(bv, bv, bv): "(= (= (bvxor x0 x1) x2) (= x0 (bvxor x2 x1)))" => "true";
    86 BV_EQ_NOT_SOLVE(bv, bv): "(= (= (bvnot x0) x1) (= x0 (bvnot x1)))" => "true";
    87 BV_UGT_ELIMINATE(bv, bv): "(bvugt x0 x1)" => "(bvult x1 x0)";
    88 BV_UGE_ELIMINATE(bv, bv): "(bvuge x0 x1)" => "(bvule x1 x0)";
    89 BV_SGT_ELIMINATE(bv, bv): "(bvsgt x0 x1)" => "(bvslt x1 x0)";
    90 BV_SGE_ELIMINATE(bv, bv): "(bvsge x0 x1)" => "(bvsle x1 x0)";
    91 BV_SLE_ELIMINATE(bv, bv): "(bvsle x0 x1)" => "(not (bvslt x1 x0))";
    92 BV_ULE_ELIMINATE(bv, bv): "(bvule x0 x1)" => "(not (bvult x1 x0))";
    93 BV_ZERO_EXTEND_ELIMINATE(bv, int): "((zero_extend x1) x0)" => "(concat (bvconst #0 width=x1) x0)";
    94 BV_ITE_EQUAL_CHILDREN(bit, bv): "(ite x0 x1 x1)" => "x1";
    95 BV_ITE_CONST_CHILDREN_1(bit): "(ite x0 (bvconst #0 width=#1) (bvconst #1 width=#1))" => "(bvnot x0)";
    96 BV_ITE_CONST_CHILDREN_2(bit): "(ite x0 (bvconst #1 width=#1) (bvconst #0 width=#1))" => "x0";
    97 BV_ITE_EQUAL_COND_1(bit, bv, bv, bv): "(ite x0 (ite x0 x1 x2) x3)" => "(ite x0 x1 x3)";
    98 BV_ITE_EQUAL_COND_2(bit, bv, bv, bv): "(ite x0 x1 (ite x0 x2 x3))" => "(ite x0 x1 x3)";
    99 BV_ITE_EQUAL_COND_3(bit, bv, bv, bv, bv): "(ite x0 (ite x0 x1 x2) (ite x0 x3 x4))" => "(ite x0 x1 x4)";
    100 BV_ITE_MERGE_THEN_IF(bit, bit, bv, bv):
        "(ite x0 (ite x1 x2 x3) x2)" => "(ite (bvand x0 (bvnot x1)) x3 x2)";
    101 BV_ITE_MERGE_ELSE_IF(bit, bit, bv, bv): "(ite x0 (ite x1 x2 x3) x3)" => "(ite (bvand x0 x1) x2 x3)";
    102 BV_ITE_MERGE_THEN_ELSE(bit, bit, bv, bv):
        "(ite x0 x2 (ite x1 x2 x3))" => "(ite (bvand (bvnot x0) (bvnot x1)) x3 x2)";
    103 BV_ITE_MERGE_ELSE_ELSE(bit, bit, bv, bv):
        "(ite x0 x3 (ite x1 x2 x3))" => "(ite (bvand (bvnot x0) x1) x2 x3)";
    104 BV_SHL_BY_CONST_0(bv, int): "(bvshl x0 (bvconst #0 width=x1))" => "x0";
    105 BV_SHL_BY_CONST_1(bv, int, int, int):
        if "(bvslt x1 (bvsize x0))"
        if "(= x3 (bvsub (bvsize x0) (bvadd #1 x1)))"
        "(bvshl x0 (bvconst x1 width=x2))" => "(concat ((extract x3 #0) x0) (bvconst #0 width=x1))";
    106 BV_SHL_BY_CONST_2(bv, int, int, int):
        if "(bvsge x1 (bvsize x0))"
        if "(= x3 (bvsize x0))"
        "(bvshl x0 (bvconst x1 width=x2))" => "(bvconst #0 width=x3)";
    107 BV_LSHR_BY_CONST_0(bv, int): "(bvlshr x0 (bvconst #0 width=x1))" => "x0";
    108 BV_LSHR_BY_CONST_1(bv, int, int, int):
        if "(bvslt x1 (bvsize x0))"
        if "(= x3 (bvsub (bvsize x0) #1))"
        "(bvlshr x0 (bvconst x1 width=x2))" => "(concat (bvconst #0 width=x1) ((extract x3 x1) x0))";
    109 BV_LSHR_BY_CONST_2(bv, int, int):
        if "(bvsge x1 (bvsize x0))"
        "(bvlshr x0 (bvconst x1 width=x2))" => "(bvconst #0 width=x2)";
    110 BV_ASHR_BY_CONST_0(bv, int): "(bvashr x0 (bvconst #0 width=x1))" => "x0";
    111 BV_ASHR_BY_CONST_1(bv, int, int, int):
        if "(bvslt x1 (bvsize x0))"
        if "(= x3 (bvsub (bvsize x0) #1))"
        "(bvashr x0 (bvconst x1 width=x2))"
        => "(concat ((repeat x1) ((extract x3 x3) x0)) ((extract x3 x1) x0))";
    112 BV_ASHR_BY_CONST_2(bv, int, int, int, int):
        if "(bvsge x1 (bvsize x0))"
        if "(= x3 (bvsub (bvsize x0) #1))"
        if "(= x4 (bvsize x0))"
        "(bvashr x0 (bvconst x1 width=x2))" => "((repeat x4) ((extract x3 x3) x0))";
    113 BV_AND_CONCAT_PULLUP(bvs, bvs, bv, bv, bvs, int, int, int):
        if "(= x6 (bvsize x2))"
        if "(= x5 (bvsub (bvsize (bvand x0 x1)) #1))"
        if "(= x7 (bvsub (bvsize x2) #1))"
        "(bvand x0 (concat x4 x3 x2) x1)"
        => "(concat (bvand ((extract x5 x6) (bvand x0 x1)) (concat x4 x3)) (bvand ((extract x7 #0) (bvand x0
            x1)) x2))";
    114 BV_OR_CONCAT_PULLUP(bvs, bvs, bv, bv, bvs, int, int, int):
        if "(= x6 (bvsize x2))"
        if "(= x5 (bvsub (bvsize (bvor x0 x1)) #1))"
        if "(= x7 (bvsub (bvsize x2) #1))"
        "(bvor x0 (concat x4 x3 x2) x1)"
        => "(concat (bvor ((extract x5 x6) (bvor x0 x1)) (concat x4 x3)) (bvor ((extract x7 #0) (bvor x0
            x1)) x2))";
    115 BV_XOR_CONCAT_PULLUP(bvs, bvs, bv, bv, bvs, int, int, int):
        if "(= x6 (bvsize x2))"
        if "(= x5 (bvsub (bvsize (bvxor x0 x1)) #1))"
        if "(= x7 (bvsub (bvsize x2) #1))"
        "(bvxor x0 (concat x4 x3 x2) x1)"
        => "(concat (bvxor ((extract x5 x6) (bvxor x0 x1)) (concat x4 x3)) (bvxor ((extract x7 #0) (bvxor x0
            x1)) x2))";
    116 BV_AND_CONCAT_PULLUP2(bvs, bvs, bv, bv, bvs, int, int, int):
        if "(= x6 (bvsize (concat x2 x4)))"
        if "(= x5 (bvsub (bvsize (bvand x0 x1)) #1))"
        if "(= x7 (bvsub (bvsize (concat x2 x4)) #1))"
        "(bvand x0 (concat x3 x2 x4) x1)"
        => "(concat (bvand ((extract x5 x6) (bvand x0 x1)) x3) (bvand ((extract x7 #0) (bvand x0 x1))
            (concat x2 x4)))";
    117 BV_OR_CONCAT_PULLUP2(bvs, bvs, bv, bv, bvs, int, int, int):
        if "(= x6 (bvsize (concat x2 x4)))"
        if "(= x5 (bvsub (bvsize (bvor x0 x1)) #1))"
        if "(= x7 (bvsub (bvsize (concat x2 x4)) #1))"
        "(bvor x0 (concat x3 x2 x4) x1)"
        => "(concat (bvor ((extract x5 x6) (bvor x0 x1)) x3) (bvor ((extract x7 #0) (bvor x0 x1)) (concat x2
            x4)))";
    118 BV_XOR_CONCAT_PULLUP2(bvs, bvs, bv, bv, bvs, int, int, int):
        if "(= x6 (bvsize (concat x2 x4)))"
        if "(= x5 (bvsub (bvsize (bvxor x0 x1)) #1))"
        if "(= x7 (bvsub (bvsize (concat x2 x4)) #1))"
        "(bvxor x0 (concat x3 x2 x4) x1)"
        => "(concat (bvxor ((extract x5 x6) (bvxor x0 x1)) x3) (bvxor ((extract x7 #0) (bvxor x0 x1))
            (concat x2 x4)))";
    119 BV_AND_CONCAT_PULLUP3(bvs, bvs, bv, bv, bv, int, int, int, int, int):
        if "(= x5 (bvsub (bvsize (bvand x0 x1)) #1))"
        if "(= x6 (bvadd (bvsize x2) (bvsize x4)))"
        if "(= x7 (bvsub (bvadd (bvsize x2) (bvsize x4)) #1))"
        if "(= x8 (bvsize x4))"
        if "(= x9 (bvsub (bvsize x4) #1))"
        "(bvand x0 (concat x3 x2 x4) x1)"
        => "(concat (bvand ((extract x5 x6) (bvand x0 x1)) x3) (bvand ((extract x7 x8) (bvand x0 x1)) x2)
            (bvand ((extract x9 #0) (bvand x0 x1)) x4))";
    120 BV_OR_CONCAT_PULLUP3(bvs, bvs, bv, bv, bv, int, int, int, int, int):
        if "(= x5 (bvsub (bvsize (bvor x0 x1)) #1))"
        if "(= x6 (bvadd (bvsize x2) (bvsize x4)))"
        if "(= x7 (bvsub (bvadd (bvsize x2) (bvsize x4)) #1))"
        if "(= x8 (bvsize x4))"
        if "(= x9 (bvsub (bvsize x4) #1))"
        "(bvor x0 (concat x3 x2 x4) x1)"
        => "(concat (bvor ((extract x5 x6) (bvor x0 x1)) x3) (bvor ((extract x7 x8) (bvor x0 x1)) x2) (bvor
            ((extract x9 #0) (bvor x0 x1)) x4))";
    121 BV_XOR_CONCAT_PULLUP3(bvs, bvs, bv, bv, bv, int, int, int, int, int):
        if "(= x5 (bvsub (bvsize (bvxor x0 x1)) #1))"
        if "(= x6 (bvadd (bvsize x2) (bvsize x4)))"
        if "(= x7 (bvsub (bvadd (bvsize x2) (bvsize x4)) #1))"
        if "(= x8 (bvsize x4))"
        if "(= x9 (bvsub (bvsize x4) #1))"
        "(bvxor x0 (concat x3 x2 x4) x1)"
        => "(concat (bvxor ((extract x5 x6) (bvxor x0 x1)) x3) (bvxor ((extract x7 x8) (bvxor x0 x1)) x2)
            (bvxor ((extract x9 #0) (bvxor x0 x1)) x4))";
    122 BV_XOR_DUPLICATE(bv, int):
        if "(= x1 (bvsize x0))"
        "(bvxor x0 x0)" => "(bvconst #0 width=x1)";
    123 BV_XOR_ONES(bvs, bvs, int, int):
        if "(= x2 (ones width=x3))"
        "(bvxor x0 (bvconst x2 width=x3) x1)" => "(bvnot (bvxor x0 x1))";
    124 BV_ULE_MAX(bv, int, int):
        if "(= x2 (bvsize x0))"
        if "(= x1 (ones width= (bvsize x0)))"
        "(bvule x0 (bvconst x1 width=x2))" => "true";
    125 BV_XOR_NOT(bv, bv): "(bvxor (bvnot x0) (bvnot x1))" => "(bvxor x0 x1)";
    126 BV_NOT_IDEMP(bv): "(bvnot (bvnot x0))" => "x0";
    127 BV_ULT_ZERO_1(bv, int): "(bvult (bvconst #0 width=x1) x0)" => "(not (= x0 (bvconst #0 width=x1)))";
    128 BV_ULT_ZERO_2(bv, int): "(bvult x0 (bvconst #0 width=x1))" => "false";
    129 BV_ULT_SELF(bv): "(bvult x0 x0)" => "false";
    130 BV_LT_SELF(bv): "(bvslt x0 x0)" => "false";
    131 BV_ULE_SELF(bv): "(bvule x0 x0)" => "true";
    132 BV_ULE_ZERO(bv, int): "(bvule x0 (bvconst #0 width=x1))" => "(= x0 (bvconst #0 width=x1))";
    133 BV_ZERO_ULE(bv, int): "(bvule (bvconst #0 width=x1) x0)" => "true";
    134 BV_SLE_SELF(bv): "(bvsle x0 x0)" => "true";
    135 BV_NOT_ULT(bv, bv): "(not (bvult x0 x1))" => "(bvule x1 x0)";
    136 BV_SHL_ZERO(bv, int): "(bvshl (bvconst #0 width=x1) x0)" => "(bvconst #0 width=x1)";
    137 BV_LSHR_ZERO(bv, int): "(bvlshr (bvconst #0 width=x1) x0)" => "(bvconst #0 width=x1)";
    138 BV_ASHR_ZERO(bv, int): "(bvashr (bvconst #0 width=x1) x0)" => "(bvconst #0 width=x1)";
    139 BV_ULT_ONE(bv, int): "(bvult x0 (bvconst #1 width=x1))" => "(= x0 (bvconst #0 width=x1))";
    140 BV_MERGE_SIGN_EXTEND_1(bv, int, int, int):
        if "(= x3 (bvadd x1 x2))"
        "((sign_extend x1) ((sign_extend x2) x0))" => "((sign_extend x3) x0)";
    141 BV_MERGE_SIGN_EXTEND_2(bv, int, int, int):
        if "(bvsgt x2 #0)"
        if "(= x3 (bvadd x1 x2))"
        "((sign_extend x1) ((zero_extend x2) x0))" => "((zero_extend x3) x0)";
    142 BV_SIGN_EXTEND_EQ_CONST_1(bv, int, int, int, int, int, int):
        if "(= x4 (bvadd x1 #1))"
        if "(= x5 (bvsub (bvsize x0) #1))"
        if "(= x6 (bvsub x3 #1))"
        "(= ((sign_extend x1) x0) (bvconst x2 width=x3))"
        => "(and (or (= ((extract x6 x5) (bvconst x2 width=x3)) (bvconst #0 width=x4)) (= ((extract x6 x5)
            (bvconst x2 width=x3)) (bvnot (bvconst #0 width=x4)))) (= x0 ((extract x5 #0) (bvconst x2
            width=x3))))";
    143 BV_SIGN_EXTEND_EQ_CONST_2(bv, int, int, int, int, int, int):
        if "(= x4 (bvadd x1 #1))"
        if "(= x5 (bvsub (bvsize x0) #1))"
        if "(= x6 (bvsub x3 #1))"
        "(= (bvconst x2 width=x3) ((sign_extend x1) x0))"
        => "(and (or (= ((extract x6 x5) (bvconst x2 width=x3)) (bvconst #0 width=x4)) (= ((extract x6 x5)
            (bvconst x2 width=x3)) (bvnot (bvconst #0 width=x4)))) (= x0 ((extract x5 #0) (bvconst x2
            width=x3))))";
    144 BV_ZERO_EXTEND_EQ_CONST_1(bv, int, int, int, int, int):
        if "(= x4 (bvsub (bvsize x0) #1))"
        if "(= x5 (bvsub x3 #1))"
        "(= ((zero_extend x1) x0) (bvconst x2 width=x3))"
        => "(and (= ((extract x5 x4) (bvconst x2 width=x3)) (bvconst #0 width=x1)) (= x0 ((extract x4 #0)
            (bvconst x2 width=x3))))";
    145 BV_ZERO_EXTEND_EQ_CONST_2(bv, int, int, int, int, int):
        if "(= x4 (bvsub (bvsize x0) #1))"
        if "(= x5 (bvsub x3 #1))"
        "(= (bvconst x2 width=x3) ((zero_extend x1) x0))"
        => "(and (= ((extract x5 x4) (bvconst x2 width=x3)) (bvconst #0 width=x1)) (= x0 ((extract x4 #0)
            (bvconst x2 width=x3))))";
    146 BV_ZERO_EXTEND_ULT_CONST_1(bv, int, int, int, int):
        if "(= x4 (bvsub (bvsize x0) #1))"
        if "(= (bvconst x2 width=x3) ((zero_extend x1) ((extract x4 #0) (bvconst x2 width=x3))))"
        "(bvult ((zero_extend x1) x0) (bvconst x2 width=x3))"
        => "(bvult x0 ((extract x4 #0) (bvconst x2 width=x3)))";
    147 BV_ZERO_EXTEND_ULT_CONST_2(bv, int, int, int, int):
        if "(= x4 (bvsub (bvsize x0) #1))"
        if "(= (bvconst x2 width=x3) ((zero_extend x1) ((extract x4 #0) (bvconst x2 width=x3))))"
        "(bvult (bvconst x2 width=x3) ((zero_extend x1) x0))"
        => "(bvult ((extract x4 #0) (bvconst x2 width=x3)) x0)";
    148 BV_SIGN_EXTEND_ULT_CONST_1(bv, int, int, int, int):
        if "(or (bvule (bvconst x2 width=x3) (bvshl (bvconst #1 width=x3) (bvconst (bvsub (bvsize x0) #1)
            width=x3))) (bvuge (bvconst x2 width=x3) (bvshl (bvnot (bvconst #0 width=x3)) (bvconst (bvsub
            (bvsize x0) #1) width=x3))))"
        if "(= x4 (bvsub (bvsize x0) #1))"
        "(bvult ((sign_extend x1) x0) (bvconst x2 width=x3))"
        => "(bvult x0 ((extract x4 #0) (bvconst x2 width=x3)))";
    149 BV_SIGN_EXTEND_ULT_CONST_2(bv, int, int, int, int):
        if "(bvult (bvshl (bvconst #1 width=x3) (bvconst (bvsub (bvsize x0) #1) width=x3)) (bvconst x2
            width=x3))"
        if "(bvule (bvconst x2 width=x3) (bvshl (bvnot (bvconst #0 width=x3)) (bvconst (bvsub (bvsize x0) #1)
            width=x3)))"
        if "(= x4 (bvsub (bvsize x0) #1))"
        "(bvult ((sign_extend x1) x0) (bvconst x2 width=x3))"
        => "(= ((extract x4 x4) x0) (bvconst #0 width=#1))";
    150 BV_SIGN_EXTEND_ULT_CONST_3(bv, int, int, int, int):
        if "(or (bvult (bvconst x2 width=x3) (bvshl (bvconst #1 width=x3) (bvconst (bvsub (bvsize x0) #1)
            width=x3))) (bvuge (bvconst x2 width=x3) (bvnot (bvshl (bvconst #1 width=x3) (bvconst (bvsub
            (bvsize x0) #1) width=x3)))))"
        if "(= x4 (bvsub (bvsize x0) #1))"
        "(bvult (bvconst x2 width=x3) ((sign_extend x1) x0))"
        => "(bvult ((extract x4 #0) (bvconst x2 width=x3)) x0)";
    151 BV_SIGN_EXTEND_ULT_CONST_4(bv, int, int, int, int):
        if "(bvule (bvnot (bvshl (bvnot (bvconst #0 width=x3)) (bvconst (bvsub (bvsize x0) #1) width=x3)))
            (bvconst x2 width=x3))"
        if "(bvule (bvconst x2 width=x3) (bvnot (bvshl (bvconst #1 width=x3) (bvconst (bvsub (bvsize x0) #1)
            width=x3))))"
        if "(= x4 (bvsub (bvsize x0) #1))"
        "(bvult (bvconst x2 width=x3) ((sign_extend x1) x0))"
        => "(= ((extract x4 x4) x0) (bvconst #1 width=#1))";
}
