package agent

import "testing"

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "EMPTY": "", "NESTED": "$(A)"}
	lookup := func(n string) (string, bool) { v, ok := vars[n]; return v, ok }
	tests := []struct{ name, in, want string }{
		{"plain text", "--listen=:80", "--listen=:80"},
		{"a variable", "--a=$(A)!", "--a=1!"},
		{"an empty variable", "x$(EMPTY)y", "xy"},
		{"an unknown name stays", "$(NONE)$(A)", "$(NONE)1"},
		{"escaped is not expanded", "$$(A)", "$(A)"},
		{"two dollars are one", "a$$b", "a$b"},
		{"a value is not expanded again", "$(NESTED)", "$(A)"},
		{"shell syntax is nothing", "${A} $A", "${A} $A"},
		{"not closed", "$(A", "$(A"},
		{"a dollar at the end", "5$", "5$"},
		{"nothing in between", "$()", "$()"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := expand(tt.in, lookup); got != tt.want {
				t.Errorf("expand(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"$(A)", "$$(A)", "$(", "$()", "a$", "$$", "$(B)$(A)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := expand(s, func(string) (string, bool) { return "", true }); len(got) > len(s) {
			t.Errorf("expand(%q) with empty values grew to %q", s, got)
		}
	})
}
