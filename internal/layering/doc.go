// Package layering is a test: it holds the arrows of docs/architecture.md, each
// with the reason why it exists. It has no code of its own, and nobody calls it.
//
// When it fails, either the import is wrong or the map is: changing a rule here
// means changing docs/architecture.md in the same commit.
package layering
