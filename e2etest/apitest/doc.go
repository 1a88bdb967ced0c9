// Package apitest tests the controller, as a process under its own service
// account, against a real kube-apiserver: what only the API server can say of
// writes, rights, conflicts and leaders. There are no nodes and no speakers.
//
// Run: make test-api
package apitest
