// Package bench measures, in the lab, the figures that need a whole cluster: how
// fast and at what cost 5,000 Services get addresses, what a speaker with 5,000
// Services needs, and how long an address is away when its owner loses power.
//
// Each benchmark makes a lab of its own, installs Herald as a user does, runs once
// and reports medians itself. What every figure means is in docs/performance.md;
// `make bench` runs them and compares with bench/budgets.txt. CPU is counted by
// the kernel for the process alone, so a busy machine hardly changes it; times are
// by the wall clock, and a busy machine does change them. Each benchmark logs the
// load of the machine with what it measured.
package bench
