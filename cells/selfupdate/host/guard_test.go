package host

import (
	"archive/tar"
	"os"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells/agent/disk"
)

// The agent is replaced by the program of the image that a release names; one that hangs, crashes, or does not even say
// its version is put back, or never started. The next release is another try.
func TestUpdate(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	kill := p.start()
	good := p.agent("good")
	p.update(good)
	for _, tc := range []struct{ role, want string }{
		{"crashing", "unknown: the agent that the release names, IMAGE, was started 5 times, and ended each time before " +
			"it reported: the one before, " + good + ", was put back"},
		{"broken", "unknown: the agent that the release names, IMAGE, does not run on this machine: exit status 1: "},
	} {
		image := p.agent(tc.role)
		p.begin(image)
		if got, want := p.result(), strings.ReplaceAll(tc.want, "IMAGE", image); got != want {
			t.Errorf("%s: it says %q, want %q", tc.role, got, want)
		}
		p.wantRunning(good)
	}
	kill()
	kill = p.start(limitVariable + "=" + shortLimit)
	mute := p.agent("mute")
	p.begin(mute)
	want := "unknown: the agent that the release names, " + mute + ", did not report within 5s: the one before, " + good +
		", was put back"
	if got := p.result(); got != want {
		t.Error(got)
	}
	p.wantRunning(good)
	kill()
	p.start()
	other := p.image(layer(t, plain("usr/bin/sluice", append(p.program("good"), '\n'))))
	p.update(other)
	if kept, err := os.ReadDir(p.path("update/programs")); err != nil || len(kept) > 4 {
		t.Errorf("%d files of programs are kept, %v", len(kept), err)
	}
}

// Whatever is killed at whatever step, and the machine with it: a good agent runs in the end, and a mute one does not.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	has := func(name, text string) func(p place) bool {
		return func(p place) bool {
			is, err := os.ReadFile(p.path("update/" + name))
			return err == nil && strings.Contains(string(is), text)
		}
	}
	seen := make(chan string, 100)
	t.Run("kills", func(t *testing.T) {
		for step, at := range map[string]func(p place) bool{
			"asked":     has("record.json", `"phase":"asked"`),
			"watched":   has("record.json", `"phase":"watched"`),
			"chosen":    has(chosenName, "sluice"),
			"counted":   has("record.json", `"starts":1`),
			"undone":    has("record.json", `"phase":"undone"`),
			"restored":  has("record.json", `"phase":"restored"`),
			"confirmed": has("record.json", `"phase":"confirmed"`),
		} {
			for _, role := range []string{"good", "mute"} {
				if isWayBack := step == "undone" || step == "restored"; role == "good" && isWayBack ||
					role == "mute" && step == "confirmed" { // it does not come
					continue
				}
				t.Run(step+" of "+role, func(t *testing.T) {
					t.Parallel()
					p := newPlace(t)
					image := p.agent(role)
					var limit []string
					if role == "mute" {
						limit = []string{limitVariable + "=" + shortLimit}
					}
					kill := p.start(limit...)
					p.wantRunning(Installed)
					p.begin(image)
					p.await("the step or the end", func() bool {
						if at(p) {
							seen <- step
							return true
						}
						_, err := os.Stat(p.path("result"))
						return err == nil
					})
					kill()
					p.start(limit...)
					got := p.result()
					if role == "good" {
						if got != "<nil>" {
							t.Errorf("it says %s", got)
						}
						p.wantRunning(image)
						return
					}
					if !strings.Contains(got, "the one before, "+Installed+", was put back") {
						t.Errorf("it says %s", got)
					}
					p.wantRunning(Installed)
				})
			}
		}
	})
	steps := map[string]bool{}
	for range len(seen) {
		steps[<-seen] = true
	}
	if len(steps) < 4 { // on a busy machine, some pass too fast to be seen
		t.Errorf("only %v were killed at", steps)
	}
}

// An installed program that its owner replaced runs, whatever a release chose before.
func TestOwnerReplacesTheInstalledProgram(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	kill := p.start()
	good := p.agent("good")
	p.update(good)
	kill()
	kill = p.start()
	p.wantRunning(good)
	kill()
	p.write("installed", append(p.program("good"), "# newer\n"...), 0o700)
	kill = p.start()
	p.wantRunning(Installed)
	// a damaged program is not started either
	p.update(good)
	kill()
	file := files{p.path("update")}.program(good)
	if err := disk.ReplaceFileMode(file, 0o700, append(p.program("good"), "# damaged\n"...)); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.wantRunning(Installed)
}

// A program that worked, and that the machine does not start any more: the installed one runs, until the other can.
func TestTheMachineDoesNotStartIt(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	kill := p.start()
	good := p.agent("good")
	p.update(good)
	kill()
	file := files{p.path("update")}.program(good)
	if err := os.Chmod(file, 0o600); err != nil { // as a file system without programs does
		t.Fatal(err)
	}
	p.start()
	p.wantRunning(Installed)
	if err := os.Chmod(file, 0o700); err != nil {
		t.Fatal(err)
	}
	p.wantRunning(good)
	log, err := os.ReadFile(p.path("log"))
	if err != nil || strings.Count(string(log), "must allow programs (no noexec)") != 1 {
		t.Errorf("the log says %s, %v", log, err)
	}
}

// What is no agent for a machine is said, and nothing of it is started. What may come later is waited for.
func TestImagesThatAreNoAgent(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	link := tar.Header{Name: "usr/bin/sluice", Typeflag: tar.TypeSymlink, Linkname: "sh"}
	for name, tc := range map[string]struct{ image, want string }{
		"by tag": {"vendor.example/team/sluice:2",
			"release: component sluice-agent: image vendor.example/team/sluice:2 has no digest"},
		"no program": {p.image(layer(t, plain("etc/passwd", nil))), "has no /usr/bin/sluice"},
		"a link":     {p.image(layer(t, link)), "is no plain file"},
		"removed": {p.image(layer(t, plain("usr/bin/sluice", p.program("good"))),
			layer(t, plain("usr/bin/.wh.sluice", nil))), "it removes /usr/bin/sluice"},
		"its folder removed": {p.image(layer(t, plain("usr/bin/sluice", p.program("good"))),
			layer(t, plain("usr/.wh.bin", nil))), "it removes /usr/bin/sluice"},
		"all removed": {p.image(layer(t, plain("usr/bin/sluice", p.program("good"))),
			layer(t, plain(".wh.usr", nil))), "it removes /usr/bin/sluice"},
		"its folder hidden": {p.image(layer(t, plain("usr/bin/sluice", p.program("good"))),
			layer(t, plain("usr/.wh..wh..opq", nil))), "it removes /usr/bin/sluice"},
		"its folder a link": {p.image(layer(t, plain("usr/bin/sluice", p.program("good"))),
			layer(t, tar.Header{Name: "usr/bin", Typeflag: tar.TypeSymlink, Linkname: "../opt"})),
			"it removes /usr/bin/sluice"},
	} {
		p.begin(tc.image)
		if got := p.result(); !strings.HasPrefix(got, "release: ") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: it says %s", name, got)
		}
	}
	again := p.image(layer(t, plain("usr/bin/sluice", p.program("broken"))),
		layer(t, plain("usr/bin/.wh..wh..opq", nil), plain("usr/bin/sluice", p.program("good"))))
	p.begin(again)
	if got := p.result(); got != "<nil>" {
		t.Errorf("a layer that hides the folder, and brings the program anew: %s", got)
	}
	p.wantRunning(again)
	missing := "vendor.example/team/sluice@sha256:" + strings.Repeat("0", 64)
	other := "other.example/team/sluice@sha256:" + strings.Repeat("0", 64)
	damaged := p.agent("good")
	p.write("content/"+damaged[strings.Index(damaged, "sha256:"):], []byte(`{"manifests": []}`), 0o600)
	for image, want := range map[string]string{missing: "404 Not Found", other: "serve --registries must name",
		damaged: "has another digest"} {
		_ = os.Remove(p.path("waits"))
		p.begin(image)
		p.await(want, func() bool {
			said, err := os.ReadFile(p.path("waits"))
			return err == nil && strings.Contains(string(said), want)
		})
	}
	p.wantRunning(again)
}

// While an agent is on trial, what another release names neither removes the program of the one before nor ends the
// trial: a mute agent is put back all the same.
func TestNoWayBackIsLostOnTrial(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	limit := limitVariable + "=20s"
	kill := p.start(limit)
	good := p.agent("good")
	p.begin(good)
	if got := p.result(); got != "<nil>" {
		t.Fatal(got)
	}
	mute, next := p.agent("mute"), p.image(layer(t, plain("usr/bin/sluice", append(p.program("good"), '\n'))))
	p.begin(mute)
	p.wantRunning(mute)
	p.begin(next)
	kill() // the agent on trial is started again, and brings it
	p.start(limit)
	p.await("the agent on trial brings the next", func() bool {
		_, err := os.Stat(files{p.path("update")}.program(next))
		return err == nil
	})
	if _, err := (files{p.path("update")}).verified(good); err != nil {
		t.Errorf("the program of the one before: %v", err)
	}
	p.wantRunning(good)
	if got := p.result(); got != "<nil>" {
		t.Error(got)
	}
	p.wantRunning(next)
}

// Without a root of trust no release replaces the agent, whose user could do anything that the agent may.
func TestOnlyVerifiedReleases(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("HOST_TEST_UNSIGNED=1")
	p.begin(p.agent("good"))
	p.await("it waits", func() bool {
		said, err := os.ReadFile(p.path("waits"))
		return err == nil && strings.Contains(string(said), "only a release whose signatures this cell verified")
	})
	p.wantRunning(Installed)
}
