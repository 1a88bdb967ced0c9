package main

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sample = `
# figure  budget  unit  folder  benchmark  metric
a.ns      100     ns    a       BenchmarkA/x=1  ns/op
a.ms      2*a.ns  ms    a       BenchmarkA/x=2  ns/op   # relative
lab.mb    90      MB    e2etest/b  BenchmarkLab  -
`

func TestCheckedInBudgetsAreSound(t *testing.T) {
	figures, err := parseBudgets(budgets)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range figures {
		if seen[f.name] {
			t.Errorf("figure %s stands twice", f.name)
		}
		seen[f.name] = true
	}
	if len(figures) < 19 {
		t.Errorf("%d figures, expected the 19 of the first issue at least", len(figures))
	}
}

func TestFiguresFromOutput(t *testing.T) {
	figures, err := parseBudgets(sample)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	collect(strings.NewReader(`goos: linux
BenchmarkA/x=1-2   	 100	 90.0 ns/op	 0 B/op	 1 allocs/op
BenchmarkA/x=1-2   	 100	 50.0 ns/op	 0 B/op	 1 allocs/op
BenchmarkA/x=1-2   	 100	 95.5 ns/op	 0 B/op	 1 allocs/op
BenchmarkA/x=2     	 100	 181000000 ns/op
PASS
`), "a", figures, values)
	collect(strings.NewReader("BenchmarkLab-2 1 123456 ns/op 91.5 lab.mb\n"), "e2etest/b", figures, values)
	var got []string
	for _, f := range figures {
		got = append(got, f.line(values))
	}
	want := []string{
		"BENCH a.ns 90 ns budget<=100 ok",
		"BENCH a.ms 181 ms budget<=180 over",
		"BENCH lab.mb 91.5 MB budget<=90 over",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAFigureThatIsMissingIsOver(t *testing.T) {
	f := figure{name: "x", unit: "ns", factor: 5}
	if got, want := f.line(nil), "BENCH x missing ns budget<=5 over"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAPartBringsWhatItsBudgetNeeds(t *testing.T) {
	figures, err := parseBudgets(sample)
	if err != nil {
		t.Fatal(err)
	}
	chosen, needed := choose(figures, regexp.MustCompile(`a\.ms`))
	names := func(fs []figure) (out []string) {
		for _, f := range fs {
			out = append(out, f.name)
		}
		return out
	}
	if diff := cmp.Diff([]string{"a.ms"}, names(chosen)); diff != "" {
		t.Errorf("printed (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a.ns", "a.ms"}, names(needed)); diff != "" {
		t.Errorf("measured (-want +got)\n%s", diff)
	}
}

func TestCommands(t *testing.T) {
	figures, err := parseBudgets(sample)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ folder, want string }{
		{"a", "go test -run ^$ -bench ^(BenchmarkA)$ -benchmem -timeout 1h0m0s -tags netns -count 5 ./a"},
		{"e2etest/b", "go test -run ^$ -bench ^(BenchmarkLab)$ -benchmem -timeout 1h0m0s -tags lab -benchtime 1x -count 1 ./b"},
	} {
		cmd := command(context.Background(), tt.folder, figures)
		if got := strings.Join(cmd.Args, " "); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestWrongBudgetsAreNamed(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"a column is missing", "x 1 ns a B", "budgets.txt:1: 5 columns, expected 6"},
		{"a budget that is no number", "x fast ns a B ns/op", `budget "fast": expected a number`},
		{"a share of an unknown figure", "x 2*y ns a B ns/op", `"2*y" names a figure that does not stand above`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseBudgets(tt.line)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}
