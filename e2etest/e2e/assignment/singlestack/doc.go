// Package singlestack tells the stories of addresses that want a small cluster
// of one family: a Service there that would like two, and a Herald that serves
// one load balancer class only.
//
// It is a package of its own because a lab is of one kind. See package assignment
// for everything else.
//
// Build tag: lab. Run: make test-e2e
package singlestack
