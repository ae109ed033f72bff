; Can this access leave its array?
;
;     i = input & 15;
;     rest = 15 - i;
;     if (rest >= 4)
;         sum += array[i];        /* of 12 bytes */
;
; A verifier that follows ranges knows that i is 0 to 15 and, behind the branch, that rest is 4 to 15; that these are two
; sides of one number it has forgotten, so that it sees i = 15 outside of the array. The condition below says that the
; access is reached and goes wrong. No input makes it true; `bpftwin bcf prove` proves that.
(set-logic QF_BV)
(declare-const input (_ BitVec 64))
(define-const i (_ BitVec 64) (bvand input #x000000000000000f))
(define-const rest (_ BitVec 64) (bvsub #x000000000000000f i))
; The path is taken.
(assert (bvuge rest #x0000000000000004))
; The index is not one of the array's.
(assert (bvugt i #x000000000000000b))
(check-sat)
