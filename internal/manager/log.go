package manager

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// levels are the words that --log-level takes. The libraries log their finest
// detail far below debug; "all" lets it through.
var levels = map[string]slog.Level{
	"all":   math.MinInt32,
	"debug": slog.LevelDebug,
	"info":  slog.LevelInfo,
	"warn":  slog.LevelWarn,
	"error": slog.LevelError,
	"none":  math.MaxInt32,
}

// LogLevels returns the words that --log-level takes, finest first.
func LogLevels() []string {
	words := make([]string, 0, len(levels))
	for w := range levels {
		words = append(words, w)
	}
	slices.SortFunc(words, func(a, b string) int { return int(levels[a] - levels[b]) })
	return words
}

// NewLogger returns a logger that writes one JSON object a line to w, with the
// keys ts (RFC 3339), level, caller (folder/file.go:line) and msg, followed by
// the keys of the message. Lines below level, one of [LogLevels], are dropped.
func NewLogger(w io.Writer, level string) (*slog.Logger, error) {
	threshold, ok := levels[level]
	if !ok {
		return nil, fmt.Errorf("log level %q is unknown; expected one of %s", level, strings.Join(LogLevels(), ", "))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		AddSource:   true,
		Level:       threshold,
		ReplaceAttr: rename,
	})), nil
}

// rename turns slog's built-in keys into the ones that operators of MetalLB
// filter by. Errors become their text: the JSON handler would do the same, but
// only for types that have no fields of their own.
func rename(groups []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok && err != nil {
		return slog.String(a.Key, err.Error())
	}
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		if a.Value.Kind() == slog.KindTime {
			return slog.String("ts", a.Value.Time().UTC().Format(time.RFC3339Nano))
		}
	case slog.LevelKey:
		if l, ok := a.Value.Any().(slog.Level); ok {
			return slog.String("level", levelWord(l))
		}
	case slog.SourceKey:
		if s, ok := a.Value.Any().(*slog.Source); ok {
			if s.File == "" {
				return slog.Attr{}
			}
			dir, file := filepath.Split(s.File)
			return slog.String("caller", filepath.Join(filepath.Base(dir), file)+":"+strconv.Itoa(s.Line))
		}
	}
	return a
}

func levelWord(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}

// AdoptLibraries sends what klog and controller-runtime log through log. Both
// keep their logger in a global without a lock, so main calls this once, before
// anything else runs.
func AdoptLibraries(log *slog.Logger) {
	klog.SetSlogLogger(log)
	ctrllog.SetLogger(logrFor(log))
}

// logrFor bridges log for libraries that speak logr. One V-step there is one
// slog level here, so V(1) to V(4) are debug.
func logrFor(log *slog.Logger) logr.Logger { return logr.FromSlogHandler(log.Handler()) }
