package layering

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pkg is one package of the product as go list tells it. Our own packages are
// named without the module's prefix.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func short(path string) string {
	if path+"/" == module {
		return "."
	}
	return strings.TrimPrefix(path, module)
}

// load asks the go tool for every package of the module, its generators included.
func load(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", module+"...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("read go list's answer: %v", err)
		}
		p.ImportPath = short(p.ImportPath)
		for _, list := range [][]string{p.Imports, p.Deps} {
			for i := range list {
				list[i] = short(list[i])
			}
		}
		pkgs = append(pkgs, p)
	}
}

func TestArrows(t *testing.T) {
	pkgs := load(t)
	for _, name := range slices.Concat(pure, rooms) {
		if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == name }) {
			t.Errorf("the rules name %s, which does not exist: correct rules_test.go", name)
		}
	}
	for _, r := range rules {
		for _, pattern := range r.from {
			if !slices.ContainsFunc(pkgs, func(p pkg) bool { return in([]string{pattern}, p.ImportPath) }) {
				t.Errorf("a rule is about %s, which does not exist: it can never bite", pattern)
			}
		}
	}
	for _, v := range violations(pkgs) {
		t.Error(v)
	}
}

// violations returns a sentence for each import that a rule forbids.
func violations(pkgs []pkg) []string {
	var out []string
	forbid := func(p, i, because string) {
		out = append(out, fmt.Sprintf("%s imports %s, but may not: %s", p, i, because))
	}
	for _, p := range pkgs {
		for _, i := range p.Imports {
			if in(rooms, p.ImportPath) && in(rooms, i) {
				forbid(p.ImportPath, i, "rooms meet in observed, desired and run.go only")
			}
			if in(forTests, i) && !in(forTests, p.ImportPath) {
				forbid(p.ImportPath, i, "it is for tests only")
			}
			if because := foreign(p.ImportPath, i); because != "" {
				forbid(p.ImportPath, i, because)
			}
		}
		for _, r := range rules {
			imports := p.Imports
			if r.deep {
				imports = p.Deps
			}
			if !in(r.from, p.ImportPath) || in(forTests, p.ImportPath) {
				continue
			}
			for _, i := range imports {
				if in(r.to, i) && !in(r.except, i) {
					forbid(p.ImportPath, i, r.because)
				}
			}
		}
	}
	return out
}

// foreign says why a package may not import a library, or "".
func foreign(p, imported string) string {
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") || imported == "." {
		return "" // the standard library, or ours
	}
	var home library
	for _, l := range libraries {
		if in([]string{l.prefix + "/..."}, imported) && len(l.prefix) > len(home.prefix) {
			home = l
		}
	}
	switch {
	case home.prefix == "":
		return "no room is the home of this library yet: say in rules_test.go which one is, and why"
	case !in(home.homes, p):
		return fmt.Sprintf("its home is %s: %s", strings.Join(home.homes, ", "), home.because)
	}
	return ""
}

func TestRulesBite(t *testing.T) {
	for _, tt := range []struct {
		name string
		pkg  pkg
		want string
	}{
		{"a pure package reads a file", pkg{ImportPath: "internal/config", Imports: []string{"os"}},
			"internal/config imports os, but may not: the same input must give the same answer on every node and in every test"},
		{"a pure package logs", pkg{ImportPath: "speaker/plan", Imports: []string{"log/slog"}},
			"speaker/plan imports log/slog, but may not: the same input must give the same answer on every node and in every test"},
		{"a pure package reaches a client through another", pkg{ImportPath: "controller/ipam", Deps: []string{"k8s.io/client-go/rest"}},
			"controller/ipam imports k8s.io/client-go/rest, but may not: who decides has no client, socket or metric, not even through others"},
		{"a room imports a room", pkg{ImportPath: "speaker/l2", Imports: []string{"speaker/link"}},
			"speaker/l2 imports speaker/link, but may not: rooms meet in observed, desired and run.go only"},
		{"the controller imports the speaker", pkg{ImportPath: "controller", Imports: []string{"speaker/plan"}},
			"controller imports speaker/plan, but may not: the two ship and fail separately"},
		{"a library away from home", pkg{ImportPath: "speaker/report", Imports: []string{"github.com/hashicorp/memberlist"}},
			"speaker/report imports github.com/hashicorp/memberlist, but may not: its home is speaker/membership: the gossip library is a detail of membership"},
		{"a library without a home", pkg{ImportPath: "speaker/l2", Imports: []string{"example.com/new/lib"}},
			"speaker/l2 imports example.com/new/lib, but may not: no room is the home of this library yet: say in rules_test.go which one is, and why"},
		{"the API imports a decision", pkg{ImportPath: "api/v1beta1", Imports: []string{"internal/config"}},
			"api/v1beta1 imports internal/config, but may not: users import the API types, and get what they import with them"},
		{"the product imports a test helper", pkg{ImportPath: "speaker", Imports: []string{"internal/testutil/netns"}},
			"speaker imports internal/testutil/netns, but may not: it is for tests only"},
		{"a room reads API objects", pkg{ImportPath: "speaker/l2", Imports: []string{"api/v1beta1"}},
			"speaker/l2 imports api/v1beta1, but may not: after Compile there is nothing left to parse; only the loops and the report read and write objects"},
		{"the report reads API objects", pkg{ImportPath: "speaker/report", Imports: []string{"api/v1beta1", "k8s.io/client-go/tools/events"}}, ""},
		{"run wires everything", pkg{ImportPath: "speaker", Imports: []string{"speaker/l2", "speaker/link"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, strings.Join(violations([]pkg{tt.pkg}), "\n")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
