package config_test

import (
	"os"
	"regexp"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/config/configtest"
)

// The examples of the page that lists what MetalLB does not have are right,
// each by itself. Those of Services are tested in internal/service.
func TestExamplesOfBeyondMetalLBCompile(t *testing.T) {
	text, err := os.ReadFile("../../docs/beyond-metallb.md")
	if err != nil {
		t.Fatal(err)
	}
	compiled := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		example := block[1]
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(example), &meta); err != nil {
			t.Fatalf("%v:\n%s", err, example)
		}
		switch meta.Kind {
		case "Service":
		case "ServiceBGPStatus":
			decodeStrictly(t, example, &v1beta1.ServiceBGPStatus{})
		case "BGPSessionStatus":
			decodeStrictly(t, example, &v1alpha1.BGPSessionStatus{})
		default:
			compiled++
			if _, problems := config.Compile(configtest.Objects(t, example)); len(problems) > 0 {
				t.Errorf("%v in:\n%s", problems, example)
			}
		}
	}
	if compiled < 8 {
		t.Errorf("only %d examples were found", compiled)
	}
}

func decodeStrictly(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Errorf("%v:\n%s", err, text)
	}
}
