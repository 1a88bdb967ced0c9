package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What can be written to must never be dropped: it would be as at the start.
func TestOnlyConstantPartsAreDropped(t *testing.T) {
	got := constantParts(strings.NewReader(`00400000-01a3c000 r-xp 00000000 fe:00 123456 /ko-app/speaker
Size:              22768 kB
Rss:               18000 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01a3c000-0390f000 r--p 0163c000 fe:00 123456 /ko-app/speaker
Anonymous:             0 kB
0390f000-03a00000 r--p 0163c000 fe:00 123456 /ko-app/speaker
Anonymous:            64 kB
03a00000-03a2c000 rw-p 0350f000 fe:00 123456 /ko-app/speaker
Anonymous:             0 kB
c000000000-c000800000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:00 99 /lib/other/ko-app/speaker.so
Anonymous:             0 kB
7ffc13990000-7ffc13992000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`), "/ko-app/speaker")
	want := []mapping{{0x400000, 0x1a3c000}, {0x1a3c000, 0x390f000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTheProgramWorksOnWithoutItsPages(t *testing.T) {
	for range 3 {
		if err := dropProgramPages(); err != nil {
			t.Fatal(err)
		}
	}
}
