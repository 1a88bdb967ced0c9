package layering

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// clocks are the functions of package time that ask for the time, or wait.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// netValues are what a pure package may use of package net: values, no sockets.
var netValues = []string{"HardwareAddr", "ParseMAC"}

func TestPurePackagesHaveNoClockNorSocket(t *testing.T) {
	for _, p := range load(t) {
		if !in(pure, p.ImportPath) {
			continue
		}
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range impure(fset, file) {
				t.Error(v)
			}
		}
	}
}

// impure returns a sentence for each use of a clock, a socket or package state
// that can change.
func impure(fset *token.FileSet, file *ast.File) []string {
	names := map[string]string{} // of imported packages, to their paths
	for _, i := range file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		name := path[strings.LastIndex(path, "/")+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = path
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		at := fset.Position(sel.Pos())
		where := fmt.Sprintf("%s:%d", filepath.Base(at.Filename), at.Line)
		switch path := names[id.Name]; {
		case path == "time" && slices.Contains(clocks, sel.Sel.Name):
			out = append(out, fmt.Sprintf("%s: %s.%s: time is an argument of a pure package", where, id.Name, sel.Sel.Name))
		case path == "net" && !slices.Contains(netValues, sel.Sel.Name):
			out = append(out, fmt.Sprintf("%s: %s.%s: a pure package has no sockets; use net/netip", where, id.Name, sel.Sel.Name))
		}
		return true
	})
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			out = append(out, fmt.Sprintf("%s: func init: a pure package does nothing before it is asked", filepath.Base(fset.Position(f.Pos()).Filename)))
		}
	}
	return out
}

func TestPurityCheckBites(t *testing.T) {
	const source = `package p
import (
	clock "time"
	"net"
)
var mac net.HardwareAddr
func init() {}
func f() { clock.Now(); _ = clock.Second; net.Dial("", "") }
`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"p.go:8: clock.Now: time is an argument of a pure package",
		"p.go:8: net.Dial: a pure package has no sockets; use net/netip",
		"p.go: func init: a pure package does nothing before it is asked",
	}
	if diff := cmp.Diff(want, impure(fset, file)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
