package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
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
		if !ours.MatchString(strconv.Quote(m.name)) {
			return "", fmt.Errorf("metric %s is neither MetalLB's (metallb_) nor ours (heraldlb_)", m.name)
		}
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
	r := reader{fset: token.NewFileSet(), constants: map[string]ast.Expr{}, kinds: map[string]string{}, senders: map[string]string{}, helpers: map[string]metric{}}
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

// reader finds calls of the Prometheus client's constructors in one package. A
// name may stand in the call itself, in the call of a small function that passes
// it on, or in a table whose rows begin with a name and a help text.
type reader struct {
	fset      *token.FileSet
	files     []*ast.File
	constants map[string]ast.Expr // named strings and lists of the package
	kinds     map[string]string   // type of the values sent for a descriptor
	senders   map[string]string   // functions that send them, and their type
	helpers   map[string]metric   // functions that pass a name and a help on
	table     *metric             // what is made of each row of a table
	found     []metric
	err       error
}

func (r *reader) metrics() ([]metric, error) {
	for _, visit := range []func(ast.Node) bool{r.noteNames, r.noteHelpers, r.noteMetric} {
		for _, f := range r.files {
			ast.Inspect(f, visit)
		}
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
	case *ast.AssignStmt:
		for i, v := range n.Rhs {
			switch v := v.(type) {
			case *ast.CompositeLit:
				if i < len(n.Lhs) {
					r.constants[lastName(n.Lhs[i])] = v
				}
			case *ast.FuncLit:
				r.noteSender(lastName(n.Lhs[i]), v)
			}
		}
	case *ast.CallExpr:
		if desc, kind := sent(n); kind != "" {
			r.kinds[desc] = kind
		} else if kind, ok := r.senders[lastName(n.Fun)]; ok && len(n.Args) > 0 {
			r.kinds[lastName(n.Args[0])] = kind
		}
	}
	return true
}

// sent reads prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, …).
func sent(call *ast.CallExpr) (desc, kind string) {
	if !strings.HasSuffix(calledOf(call), "NewConstMetric") || len(call.Args) < 2 {
		return "", ""
	}
	value, ok := call.Args[1].(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	return lastName(call.Args[0]), strings.ToLower(strings.TrimSuffix(value.Sel.Name, "Value"))
}

// noteSender notes a function that sends values for the descriptor that is its
// first parameter.
func (r *reader) noteSender(name string, f *ast.FuncLit) {
	if len(f.Type.Params.List) == 0 || len(f.Type.Params.List[0].Names) == 0 {
		return
	}
	first := f.Type.Params.List[0].Names[0].Name
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if desc, kind := sent(call); desc == first {
				r.senders[name] = kind
			}
		}
		return true
	})
}

// noteHelpers finds what passes names on: functions with a parameter for the
// name, and descriptors made from the field of a row.
func (r *reader) noteHelpers(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		r.noteHelper(n.Name.Name, n.Type, n.Body)
	case *ast.AssignStmt:
		for i, v := range n.Rhs {
			if f, ok := v.(*ast.FuncLit); ok && i < len(n.Lhs) {
				r.noteHelper(lastName(n.Lhs[i]), f.Type, f.Body)
			}
		}
	case *ast.CallExpr:
		if calledOf(n) == "NewDesc" && len(n.Args) > 2 {
			if _, ok := n.Args[0].(*ast.SelectorExpr); ok {
				r.table = &metric{kind: r.kindOf(""), labels: r.list(n.Args[2])}
			}
		}
	}
	return true
}

func (r *reader) noteHelper(name string, signature *ast.FuncType, body *ast.BlockStmt) {
	if body == nil {
		return
	}
	parameters := map[string]bool{}
	for _, p := range signature.Params.List {
		for _, n := range p.Names {
			parameters[n.Name] = true
		}
	}
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		kind, options := constructed(call)
		if options == nil {
			return true
		}
		if id, ok := options["Name"].(*ast.Ident); ok && parameters[id.Name] {
			m := metric{kind: kind}
			if len(call.Args) > 1 {
				m.labels = r.list(call.Args[1])
			}
			r.helpers[name] = m
		}
		return true
	})
}

func (r *reader) noteMetric(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ValueSpec:
		for i, v := range n.Values {
			r.noteDesc(v, n.Names[i].Name)
		}
	case *ast.KeyValueExpr:
		r.noteDesc(n.Value, lastName(n.Key))
	case *ast.AssignStmt:
		for i, v := range n.Rhs {
			if i < len(n.Lhs) {
				r.noteDesc(v, lastName(n.Lhs[i]))
			}
		}
	case *ast.CompositeLit:
		if r.table != nil && len(n.Elts) >= 2 && isName(n.Elts[0]) {
			r.add(*r.table, n.Elts[0], n.Elts[1])
		}
	case *ast.CallExpr:
		r.noteCall(n)
	}
	return r.err == nil
}

func (r *reader) noteCall(call *ast.CallExpr) {
	if helper, ok := r.helpers[lastName(call.Fun)]; ok && len(call.Args) >= 2 {
		r.add(helper, call.Args[0], call.Args[1])
		return
	}
	kind, options := constructed(call)
	if options == nil {
		return
	}
	if id, ok := options["Name"].(*ast.Ident); ok && r.constants[id.Name] == nil && len(r.helpers) > 0 {
		return // the inside of a helper
	}
	m := metric{kind: kind}
	for _, part := range []string{"Namespace", "Subsystem", "Name"} {
		if e := options[part]; e != nil {
			m.name = strings.TrimPrefix(m.name+"_"+r.text(e), "_")
		}
	}
	if e := options["Help"]; e != nil {
		m.help = r.text(e)
	}
	if strings.HasSuffix(calledOf(call), "Vec") && len(call.Args) > 1 {
		m.labels = r.list(call.Args[1])
	}
	r.found = append(r.found, m)
}

func (r *reader) add(m metric, name, help ast.Expr) {
	m.name, m.help = r.text(name), r.text(help)
	r.found = append(r.found, m)
}

// noteDesc notes value if it is a call of prometheus.NewDesc, kept under a name.
func (r *reader) noteDesc(value ast.Expr, keptAs string) {
	call, ok := value.(*ast.CallExpr)
	if !ok || calledOf(call) != "NewDesc" || len(call.Args) < 3 {
		return
	}
	r.found = append(r.found, metric{
		name: r.text(call.Args[0]), help: r.text(call.Args[1]), kind: r.kindOf(keptAs), labels: r.list(call.Args[2]),
	})
}

// kindOf is the type of the values that are sent for a descriptor: what is known
// of its name, or of every descriptor of the package.
func (r *reader) kindOf(keptAs string) string {
	if kind, ok := r.kinds[keptAs]; ok {
		return kind
	}
	all := slices.Compact(slices.Sorted(maps.Values(r.kinds)))
	if len(all) == 1 {
		return all[0]
	}
	return "untyped"
}

var constructor = regexp.MustCompile(`^New(Gauge|Counter|Histogram|Summary)(Vec|Func)?$`)

// constructed returns what kind of metric a call makes, and its options.
func constructed(call *ast.CallExpr) (kind string, options map[string]ast.Expr) {
	match := constructor.FindStringSubmatch(calledOf(call))
	if match == nil || len(call.Args) == 0 {
		return "", nil
	}
	lit, ok := call.Args[0].(*ast.CompositeLit)
	if !ok || !strings.HasSuffix(lastName(lit.Type), "Opts") {
		return "", nil
	}
	options = map[string]ast.Expr{}
	for _, e := range lit.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			options[lastName(pair.Key)] = pair.Value
		}
	}
	return strings.ToLower(match[1]), options
}

var ours = regexp.MustCompile(`^"(metallb|heraldlb)_[a-z0-9_]+"$`)

// isName says whether an expression is the literal name of a metric of ours.
func isName(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && ours.MatchString(lit.Value)
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
