package main

import (
	"fmt"
	"strings"

	"github.com/heraldlb/herald/internal/reason"
)

func reasons() (string, error) {
	var b strings.Builder
	b.WriteString(`# Reasons

Whatever Herald decides about a Service has one of these reasons. The same word stands in the Service's conditions, in events, in logs, in
metric labels and here. A reason keeps its name and its meaning.

| reason | what it means | what to do |
|---|---|---|
`)
	for _, e := range reason.All() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", e.Reason, cell(e.Sentence), cell(e.Remedy))
	}
	return b.String(), nil
}

// cell makes text fit into a table's cell.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
