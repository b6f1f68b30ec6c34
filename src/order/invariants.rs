//! What must always hold of one order: each invariant is a named predicate.
