package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// programFlag is one flag as package flag prints it.
type programFlag struct {
	name, value, usage string
}

func flags() (string, error) {
	byProgram := map[string][]programFlag{}
	for _, program := range []string{"controller", "speaker"} {
		help, err := helpOf(program)
		if err != nil {
			return "", err
		}
		if byProgram[program] = parseHelp(help); len(byProgram[program]) == 0 {
			return "", fmt.Errorf("./%s -help names no flag; it prints:\n%s", program, help)
		}
	}
	return flagsPage(byProgram["controller"], byProgram["speaker"]), nil
}

// helpOf asks a program, without any variable that a default could come from.
func helpOf(program string) (string, error) {
	cmd := exec.Command("go", "run", "./"+program, "-help")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "METALLB_") || strings.HasPrefix(kv, "KUBECONFIG=")
	})
	out, err := cmd.CombinedOutput()
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return "", fmt.Errorf("run ./%s -help: %w", program, err)
		}
		return "", fmt.Errorf("run ./%s -help: %w\n%s", program, err, out)
	}
	return string(out), nil
}

var (
	flagLine = regexp.MustCompile(`^  -(\S+)(?: (\S+))?(?:\t(.*))?$`)
	textLine = regexp.MustCompile(`^    \t(.*)$`)
)

// parseHelp reads what flag.PrintDefaults writes.
func parseHelp(help string) []programFlag {
	var out []programFlag
	for line := range strings.Lines(help) {
		line = strings.TrimSuffix(line, "\n")
		if m := flagLine.FindStringSubmatch(line); m != nil {
			out = append(out, programFlag{name: m[1], value: m[2], usage: m[3]})
		} else if m := textLine.FindStringSubmatch(line); m != nil && len(out) > 0 {
			last := &out[len(out)-1]
			last.usage = strings.TrimSpace(last.usage + " " + m[1])
		}
	}
	return out
}

func flagsPage(controller, speaker []programFlag) string {
	both := slices.Clone(controller)
	both = slices.DeleteFunc(both, func(f programFlag) bool { return !slices.Contains(speaker, f) })
	only := func(all []programFlag) []programFlag {
		return slices.DeleteFunc(slices.Clone(all), func(f programFlag) bool { return slices.Contains(both, f) })
	}
	var b strings.Builder
	b.WriteString(`# Flags

One dash or two; the names and the variables of the environment are MetalLB's. A flag beats its variable. A wrong value ends the start with a
sentence that names the flag.
`)
	for _, section := range []struct {
		title string
		flags []programFlag
	}{
		{"Both programs", both}, {"Controller", only(controller)}, {"Speaker", only(speaker)},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n| flag | meaning |\n|---|---|\n", section.title)
		for _, f := range section.flags {
			fmt.Fprintf(&b, "| `%s` | %s |\n", strings.TrimSpace("--"+f.name+" "+f.value), cell(f.usage))
		}
	}
	return b.String()
}
