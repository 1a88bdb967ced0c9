// Package harness is what the end-to-end tests stand on: one lab for a package
// of tests with Herald installed in it, and for each test a namespace, a block of
// addresses and the verbs of a story: create, wait, ask from the client, break
// something, look who answers.
//
// It knows Kubernetes, the lab and Herald's objects as a user sees them. It
// refuses to know Herald's code: it imports none of it, so a test can only ask
// for what a user can ask for.
//
// Main (called by TestMain) owns the lab; New gives a test its part of it. Every
// object that a test makes is deleted at its end, every label, taint, condition
// and fault is taken back, and every wait has a limit. Tests that touch only
// their own objects call Parallel; those that touch nodes or Herald's pods do
// not, and so never run beside another.
//
// When a test fails, what there was to see (Services, status objects, events,
// logs) is written to a folder whose name is printed.
//
// Build tag: lab. Run: make test-e2e
package harness
