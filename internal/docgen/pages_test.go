package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// page reads one of the docs that people write.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A map that names a file which is not there sends its reader astray.
func TestMapNamesFilesThatAreThere(t *testing.T) {
	code := regexp.MustCompile("`([^` ]+/[^` ]*)`")
	named := 0
	for _, m := range code.FindAllStringSubmatch(page(t, "architecture.md"), -1) {
		path := m[1]
		if strings.HasPrefix(path, "heraldlb.io/") { // a condition
			continue
		}
		named++
		if found, err := filepath.Glob(filepath.Join(root, path)); err != nil || len(found) == 0 {
			t.Errorf("docs/architecture.md names %s, which does not exist", path)
		}
	}
	if named < 30 {
		t.Errorf("only %d paths were found; does the page still quote them in backticks?", named)
	}
}

// Each row about a defect names a test, and the tests that it names are there.
func TestDefectsNameTestsThatAreThere(t *testing.T) {
	rows := 0
	for _, line := range strings.Split(page(t, "defects.md"), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 3 || cells[2] == "shown by " {
			continue
		}
		rows++
		tests, err := proofs(cells[2])
		if err != nil {
			t.Errorf("%q: %v", cells[0], err)
		}
		if tests == 0 {
			t.Errorf("%q: no test is named", cells[0])
		}
	}
	if rows < 40 {
		t.Errorf("only %d rows were found; does the page still have three columns?", rows)
	}
}

// proofs checks a cell such as: `speaker/l2` `TestX` "a row of it"; `TestY`. It
// returns how many tests the cell names.
func proofs(cell string) (tests int, err error) {
	var folder, source string
	for _, m := range regexp.MustCompile("`([^`]+)`|\"([^\"]+)\"").FindAllStringSubmatch(cell, -1) {
		switch name, row := m[1], m[2]; {
		case row != "" && !strings.Contains(source, row):
			return tests, fmt.Errorf("%s has no row %q", folder, row)
		case row != "":
		case regexp.MustCompile("^(Test|Benchmark|Fuzz)[A-Z]").MatchString(name):
			tests++
			if !strings.Contains(source, "\nfunc "+name+"(") {
				return tests, fmt.Errorf("%s has no %s", folder, name)
			}
		default:
			folder = name
			if source, err = testsOf(filepath.Join(root, name)); err != nil {
				return tests, err
			}
		}
	}
	return tests, nil
}

// testsOf reads the tests of a package and their stories.
func testsOf(folder string) (string, error) {
	var all strings.Builder
	for _, pattern := range []string{"*_test.go", "testdata/*.txtar", "testdata/stories/*.txtar"} {
		files, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			return "", err
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				return "", err
			}
			all.Write(text)
		}
	}
	if all.Len() == 0 {
		return "", fmt.Errorf("%s has no tests", folder)
	}
	return all.String(), nil
}

func TestProofsThatAreNoneAreFound(t *testing.T) {
	for cell, want := range map[string]string{
		"`speaker/link` `TestAnnouncingInterfaces` \"a member of a VRF\"":  "",
		"`speaker/link` `TestAnnouncingInterfaces` \"a member of a club\"": `no row "a member of a club"`,
		"`speaker/link` `TestThatNobodyWrote`":                             "no TestThatNobodyWrote",
		"`speaker/nowhere` `TestX`":                                        "has no tests",
		"`TestWithoutAPackage`":                                            "no TestWithoutAPackage",
	} {
		_, err := proofs(cell)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", cell, err, want)
		}
	}
}
