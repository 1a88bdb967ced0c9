package config_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	sigsyaml "sigs.k8s.io/yaml"
)

type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	Annotations map[string]string `json:"annotations"`
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile("components/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rule struct {
		Spec struct {
			Groups []struct {
				Rules []alert `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}
	if err := sigsyaml.Unmarshal(text, &rule); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range rule.Spec.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

// A controller that waits for the lease has loaded nothing, and that is well; a
// speaker that has loaded nothing must not hide behind the others.
func TestAWaitingControllerIsNoAlert(t *testing.T) {
	each := map[string]bool{}
	for _, a := range alerts(t) {
		if !strings.Contains(a.Expr, "config_loaded_bool") {
			continue
		}
		switch together := strings.HasPrefix(a.Expr, "max by (namespace, job) ("); {
		case strings.Contains(a.Expr, `{job="controller-monitor-service"}`) && together:
			each["controller"] = true
		case strings.Contains(a.Expr, `{job="speaker-monitor-service"}`) && !together:
			each["speaker"] = true
		default:
			t.Errorf("%s: %s must ask the controllers together and each speaker", a.Alert, a.Expr)
		}
	}
	if len(each) != 2 {
		t.Errorf("only %v are watched, want the controller and the speaker", each)
	}
}

// A job is named after the Service that is scraped, and an annotation can only
// name what the expression leaves.
func TestAlertsNameWhatIsThere(t *testing.T) {
	monitors, err := os.ReadFile("components/prometheus/monitors.yaml")
	if err != nil {
		t.Fatal(err)
	}
	job, by := regexp.MustCompile(`job="([^"]*)"`), regexp.MustCompile(`\bby ?\(([^)]*)\)`)
	label := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, a := range alerts(t) {
		for _, m := range job.FindAllStringSubmatch(a.Expr, -1) {
			if !strings.Contains(string(monitors), "kind: Service\nmetadata:\n  name: "+m[1]+"\n") {
				t.Errorf("%s asks for the job %s, but monitors.yaml has no Service of that name", a.Alert, m[1])
			}
		}
		left := by.FindStringSubmatch(a.Expr)
		for key, text := range a.Annotations {
			for _, m := range label.FindAllStringSubmatch(text, -1) {
				if left != nil && !strings.Contains(left[1], m[1]) {
					t.Errorf("%s: its %s names the label %s, which %s drops", a.Alert, key, m[1], a.Expr)
				}
			}
		}
	}
}
