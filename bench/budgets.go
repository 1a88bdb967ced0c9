package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// figure is one line of budgets.txt.
type figure struct {
	name, unit string
	// budget is factor, or factor times the figure named of.
	factor float64
	of     string

	folder, benchmark, metric string
}

func parseBudgets(text string) ([]figure, error) {
	var out []figure
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		columns := strings.Fields(line)
		if len(columns) == 0 {
			continue
		}
		if len(columns) != 6 {
			return nil, fmt.Errorf("budgets.txt:%d: %d columns, expected 6: figure, budget, unit, folder, benchmark, metric", number, len(columns))
		}
		f := figure{name: columns[0], unit: columns[2], folder: columns[3], benchmark: columns[4], metric: columns[5]}
		factor, of, relative := strings.Cut(columns[1], "*")
		var err error
		if f.factor, err = strconv.ParseFloat(factor, 64); err != nil {
			return nil, fmt.Errorf("budgets.txt:%d: budget %q: expected a number, or N*figure", number, columns[1])
		}
		if f.of = of; relative && !slices.ContainsFunc(out, func(g figure) bool { return g.name == of }) {
			return nil, fmt.Errorf("budgets.txt:%d: budget %q names a figure that does not stand above", number, columns[1])
		}
		if f.metric == "-" {
			f.metric = f.name
		}
		out = append(out, f)
	}
	return out, nil
}

// choose returns the figures whose names match, and with them those that their
// budgets are shares of.
func choose(figures []figure, wanted *regexp.Regexp) (chosen, needed []figure) {
	for _, f := range figures {
		if wanted.MatchString(f.name) {
			chosen = append(chosen, f)
		}
	}
	for _, f := range figures {
		if slices.ContainsFunc(chosen, func(c figure) bool { return c.name == f.name || c.of == f.name }) {
			needed = append(needed, f)
		}
	}
	return chosen, needed
}

func folders(figures []figure) []string {
	var out []string
	for _, f := range figures {
		if !slices.Contains(out, f.folder) {
			out = append(out, f.folder)
		}
	}
	return out
}

// line compares a figure with its budget. A figure that could not be measured
// counts as over.
func (f figure) line(values map[string]float64) string {
	budget, known := f.factor, true
	if f.of != "" {
		var base float64
		base, known = values[f.of]
		budget *= base
	}
	value, measured := values[f.name]
	if !measured || !known {
		return fmt.Sprintf("BENCH %s missing %s budget<=%s over", f.name, f.unit, number(budget))
	}
	verdict := "ok"
	if value > budget {
		verdict = "over"
	}
	return fmt.Sprintf("BENCH %s %s %s budget<=%s %s", f.name, number(value), f.unit, number(budget), verdict)
}

// number writes at most four significant digits of a fraction, and whole
// numbers as they are.
func number(v float64) string {
	if v >= 1000 || v == float64(int64(v)) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
