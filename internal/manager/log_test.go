package manager

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLogLineHasTheKeysThatOperatorsFilterBy(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "info")
	if err != nil {
		t.Fatal(err)
	}
	log.With("node", "a").Warn("cannot read the table", "ip", "192.0.2.1", "err", errors.New("no route"))

	var line map[string]string
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if _, err := time.Parse(time.RFC3339Nano, line["ts"]); err != nil {
		t.Errorf("ts: %v", err)
	}
	if !regexp.MustCompile(`^manager/log_test\.go:\d+$`).MatchString(line["caller"]) {
		t.Errorf("caller %q, want manager/log_test.go:<line>", line["caller"])
	}
	delete(line, "ts")
	delete(line, "caller")
	want := map[string]string{"level": "warn", "msg": "cannot read the table", "node": "a", "ip": "192.0.2.1", "err": "no route"}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestLogLevels(t *testing.T) {
	if diff := cmp.Diff([]string{"all", "debug", "info", "warn", "error", "none"}, LogLevels()); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	// What passes each threshold: V(6) of a library, debug, info, warn, error.
	for level, want := range map[string]string{
		"all": "vdiwe", "debug": "diwe", "info": "iwe", "warn": "we", "error": "e", "none": "",
	} {
		t.Run(level, func(t *testing.T) {
			var out bytes.Buffer
			log, err := NewLogger(&out, level)
			if err != nil {
				t.Fatal(err)
			}
			logrFor(log).V(6).Info("v")
			log.Debug("d")
			log.Info("i")
			log.Warn("w")
			log.Error("e")
			got := ""
			for line := range strings.Lines(out.String()) {
				var l struct{ Msg string }
				if err := json.Unmarshal([]byte(line), &l); err != nil {
					t.Fatal(err)
				}
				got += l.Msg
			}
			if got != want {
				t.Errorf("passed %q, want %q", got, want)
			}
		})
	}
}

func TestUnknownLogLevelNamesTheKnownOnes(t *testing.T) {
	_, err := NewLogger(&bytes.Buffer{}, "loud")
	want := `log level "loud" is unknown; expected one of all, debug, info, warn, error, none`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLibrariesLogAsWeDo(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "info")
	if err != nil {
		t.Fatal(err)
	}
	logrFor(log).WithName("cache").Error(errors.New("gone"), "watch ended", "kind", "Node")
	var line map[string]string
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if line["level"] != "error" || line["err"] != "gone" || line["kind"] != "Node" || line["logger"] != "cache" {
		t.Errorf("got %v", line)
	}
	if !strings.HasPrefix(line["caller"], "manager/log_test.go:") {
		t.Errorf("caller %q does not point at the call", line["caller"])
	}
}
