package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/config/configtest"
)

const samples = "../../config/samples"

// The samples that users start from are right, together and without a warning.
func TestSamplesCompileWithoutProblems(t *testing.T) {
	var all strings.Builder
	for _, name := range []string{"ipaddresspool", "l2advertisement", "bgpadvertisement", "bgppeer", "bfdprofile", "community"} {
		text, err := os.ReadFile(filepath.Join(samples, name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n---\n" + string(text))
	}
	s, problems := config.Compile(configtest.Objects(t, all.String()))
	for _, p := range problems {
		t.Errorf("%s: %v", p.Severity, p)
	}
	if len(s.Pools) != 3 || len(s.L2Advertisements) != 2 || len(s.BGPAdvertisements) != 3 ||
		len(s.Peers) != 3 || len(s.BFDProfiles) != 2 || len(s.Communities) != 4 {
		t.Errorf("not everything arrived:\n%s", config.Describe(s))
	}
}

// The samples of what Herald writes have no field that does not exist.
func TestStatusSamplesDecode(t *testing.T) {
	for name, into := range map[string]metav1.Object{
		"servicel2status":    &v1beta1.ServiceL2Status{},
		"servicebgpstatus":   &v1beta1.ServiceBGPStatus{},
		"configurationstate": &v1beta1.ConfigurationState{},
		"bgpsessionstatus":   &v1alpha1.BGPSessionStatus{},
	} {
		text, err := os.ReadFile(filepath.Join(samples, name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, into); err != nil || into.GetNamespace() != "metallb-system" {
			t.Errorf("%s: namespace %q, %v", name, into.GetNamespace(), err)
		}
	}
}
