package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// metric is one family as the code that makes it says.
type metric struct {
	name, kind, help string
	labels           []string
	by               string
}

func metrics() (string, error) {
	var all []metric
	for _, root := range []string{"controller", "speaker", "internal"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			found, err := metricsIn(path)
			for _, m := range found {
				if m.by = root; root == "internal" {
					m.by = "both"
				}
				all = append(all, m)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return metricsPage(all)
}

func metricsPage(all []metric) (string, error) {
	merged := map[string]metric{}
	for _, m := range all {
		if before, ok := merged[m.name]; ok {
			if before.by != m.by {
				before.by = "both"
			}
			merged[m.name] = before
			continue
		}
		merged[m.name] = m
	}
	list := make([]metric, 0, len(merged))
	for _, m := range merged {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b metric) int { return cmp.Compare(a.name, b.name) })

	var b strings.Builder
	b.WriteString(`# Metrics

Both programs serve these over HTTPS at ` + "`/metrics`" + ` on port 9120, to whoever the API server lets ` + "`get`" + ` the non-resource URL
` + "`/metrics`" + `. Names that begin with ` + "`metallb_`" + ` are MetalLB's. The metrics of the Go runtime, the process and the client are served too.

| name | type | labels | by | meaning |
|---|---|---|---|---|
`)
	for _, m := range list {
		if m.help == "" {
			return "", fmt.Errorf("metric %s has no help text", m.name)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.name, m.kind, cell(strings.Join(m.labels, ", ")), m.by, cell(m.help))
	}
	return b.String(), nil
}

// metricsIn reads the metrics that a folder's code makes, tests aside.
func metricsIn(dir string) ([]metric, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	r := reader{fset: token.NewFileSet(), constants: map[string]ast.Expr{}, kinds: map[string]string{}}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(r.fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		r.files = append(r.files, file)
	}
	return r.metrics()
}

// reader finds calls of the Prometheus client's constructors in one package.
type reader struct {
	fset      *token.FileSet
	files     []*ast.File
	constants map[string]ast.Expr // named strings and lists of the package
	kinds     map[string]string   // type of the values sent for a descriptor
	found     []metric
	err       error
}

func (r *reader) metrics() ([]metric, error) {
	for _, f := range r.files {
		ast.Inspect(f, r.noteNames)
	}
	for _, f := range r.files {
		ast.Inspect(f, r.noteMetric)
	}
	return r.found, r.err
}

func (r *reader) noteNames(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if i < len(n.Values) {
				r.constants[name.Name] = n.Values[i]
			}
		}
	case *ast.CallExpr:
		// prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, …)
		if strings.HasSuffix(calledOf(n), "NewConstMetric") && len(n.Args) > 1 {
			if kind, ok := n.Args[1].(*ast.SelectorExpr); ok {
				r.kinds[lastName(n.Args[0])] = strings.ToLower(strings.TrimSuffix(kind.Sel.Name, "Value"))
			}
		}
	}
	return true
}

var constructor = regexp.MustCompile(`^New(Gauge|Counter|Histogram|Summary)(Vec|Func)?$`)

func (r *reader) noteMetric(n ast.Node) bool {
	if spec, ok := n.(*ast.ValueSpec); ok {
		for i, v := range spec.Values {
			r.noteDesc(v, spec.Names[i].Name)
		}
	}
	if pair, ok := n.(*ast.KeyValueExpr); ok {
		r.noteDesc(pair.Value, lastName(pair.Key))
	}
	if set, ok := n.(*ast.AssignStmt); ok {
		for i, v := range set.Rhs {
			if i < len(set.Lhs) {
				r.noteDesc(v, lastName(set.Lhs[i]))
			}
		}
	}
	call, ok := n.(*ast.CallExpr)
	if !ok || r.err != nil {
		return r.err == nil
	}
	match := constructor.FindStringSubmatch(calledOf(call))
	if match == nil || len(call.Args) == 0 {
		return true
	}
	opts, ok := call.Args[0].(*ast.CompositeLit)
	if !ok || !strings.HasSuffix(lastName(opts.Type), "Opts") {
		return true
	}
	m := metric{kind: strings.ToLower(match[1])}
	var parts [3]string
	for _, e := range opts.Elts {
		pair, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		switch lastName(pair.Key) {
		case "Namespace":
			parts[0] = r.text(pair.Value)
		case "Subsystem":
			parts[1] = r.text(pair.Value)
		case "Name":
			parts[2] = r.text(pair.Value)
		case "Help":
			m.help = r.text(pair.Value)
		}
	}
	m.name = strings.TrimLeft(strings.Join(slices.DeleteFunc(parts[:], func(p string) bool { return p == "" }), "_"), "_")
	if match[2] == "Vec" && len(call.Args) > 1 {
		m.labels = r.list(call.Args[1])
	}
	r.found = append(r.found, m)
	return true
}

// noteDesc notes value if it is a call of prometheus.NewDesc, kept under a name.
func (r *reader) noteDesc(value ast.Expr, name string) {
	call, ok := value.(*ast.CallExpr)
	if !ok || calledOf(call) != "NewDesc" || len(call.Args) < 3 || r.err != nil {
		return
	}
	kind, ok := r.kinds[name]
	if !ok {
		kind = "gauge"
	}
	r.found = append(r.found, metric{name: r.text(call.Args[0]), help: r.text(call.Args[1]), kind: kind, labels: r.list(call.Args[2])})
}

// text evaluates a string: a literal, a name of the package, or a sum of such.
func (r *reader) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return s
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return r.text(e.X) + r.text(e.Y)
		}
	case *ast.ParenExpr:
		return r.text(e.X)
	case *ast.Ident:
		if v, ok := r.constants[e.Name]; ok {
			return r.text(v)
		}
	}
	r.fail(e, "a string that is known before the program runs")
	return ""
}

func (r *reader) list(e ast.Expr) []string {
	switch e := e.(type) {
	case *ast.CompositeLit:
		out := make([]string, 0, len(e.Elts))
		for _, x := range e.Elts {
			out = append(out, r.text(x))
		}
		return out
	case *ast.Ident:
		if e.Name == "nil" {
			return nil
		}
		if v, ok := r.constants[e.Name]; ok {
			return r.list(v)
		}
	}
	r.fail(e, "a list of labels that is known before the program runs")
	return nil
}

func (r *reader) fail(e ast.Expr, expected string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: expected %s", r.fset.Position(e.Pos()), expected)
	}
}

// calledOf is the name of a function that is called by its package's name.
func calledOf(call *ast.CallExpr) string {
	if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
		if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "prometheus" {
			return sel.Sel.Name
		}
	}
	return ""
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
