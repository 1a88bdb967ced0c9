package reason_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/heraldlb/herald/internal/reason"
)

func TestEveryEntryExplainsOneReason(t *testing.T) {
	word := regexp.MustCompile(`^[A-Z][A-Za-z]+$`)
	seen := map[reason.Reason]bool{}
	for _, e := range reason.All() {
		if !word.MatchString(string(e.Reason)) {
			t.Errorf("%q is no word in CamelCase", e.Reason)
		}
		if seen[e.Reason] {
			t.Errorf("%s has two entries", e.Reason)
		}
		seen[e.Reason] = true
		for _, text := range []string{e.Sentence, e.Remedy} {
			if text != "" && !strings.HasSuffix(text, ".") {
				t.Errorf("%s: %q is no sentence", e.Reason, text)
			}
		}
		if e.Sentence == "" || e.Reason.Sentence() != e.Sentence {
			t.Errorf("%s: its sentence is %q, Sentence says %q", e.Reason, e.Sentence, e.Reason.Sentence())
		}
	}
	for name, value := range constants(t) {
		if !seen[value] {
			t.Errorf("%s (%s) has no entry", name, value)
		}
	}
}

// A reason that nothing gives would only puzzle whoever reads the catalogue.
func TestEveryReasonIsGiven(t *testing.T) {
	given := map[string]bool{}
	for _, folder := range []string{"controller", "speaker", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			ast.Inspect(parse(t, path), func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if of, ok := s.X.(*ast.Ident); ok && of.Name == "reason" {
						given[s.Sel.Name] = true
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range constants(t) {
		if !given[name] {
			t.Errorf("nothing gives the reason %s", name)
		}
	}
}

// constants are the Reasons that the package declares, by their Go names.
func constants(t *testing.T) map[string]reason.Reason {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]reason.Reason{}
	for _, path := range files {
		ast.Inspect(parse(t, path), func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				all[spec.Names[0].Name] = reason.Reason(value)
			}
			return true
		})
	}
	if len(all) == 0 {
		t.Fatal("no Reason is declared")
	}
	return all
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
