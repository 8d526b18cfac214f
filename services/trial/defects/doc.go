// Package defects has tests only: for each defect that carts are known to have,
// a whole shop with that defect and one without it, under the same traffic and
// the same faults. The check that is named for the defect must find it in the
// one, and nothing in the other.
//
// The hazard is a checker that can't fail. A history that was written by hand
// shows that a check finds what its author thought of; here real gateways, carts
// and auth run on a real Redis, and what they do wrong is what they would do
// wrong. The defects are doubles of parts, in these tests: the shop itself has
// no switch for any.
package defects
