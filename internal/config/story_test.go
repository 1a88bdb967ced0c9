package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/config/configtest"
)

var update = flag.Bool("update", false, "write what the stories give now; review the difference like code")

// A story is a configuration as users write it, the problems that they see,
// and what is left of the configuration.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories found: %v", err)
	}
	for _, file := range files {
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".txtar"), "_", " ")
		t.Run(name, func(t *testing.T) {
			story, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var objects string
			want := map[string]string{}
			for _, f := range story.Files {
				if f.Name == "objects.yaml" {
					objects = string(f.Data)
					continue
				}
				want[f.Name] = string(f.Data)
			}
			snapshot, problems := config.Compile(configtest.Objects(t, objects))
			got := map[string]string{"problems": problemText(problems), "snapshot": config.Describe(snapshot)}
			if *update {
				story.Files = []txtar.File{
					{Name: "objects.yaml", Data: []byte(objects)},
					{Name: "problems", Data: []byte(got["problems"])},
					{Name: "snapshot", Data: []byte(got["snapshot"])},
				}
				if err := os.WriteFile(file, txtar.Format(story), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("story differs (-want +got):\n%s", diff)
			}
		})
	}
}

func problemText(problems []config.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.Severity.String() + ": " + p.String() + "\n")
	}
	return b.String()
}
