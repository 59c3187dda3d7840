package selfupdate

import (
	"testing"
	"time"
)

// What the part does that watches: it says so, waits for as long as the limit, and puts the old image back, in the
// workload and in the pod, whatever state these are in.
func TestWatch(t *testing.T) {
	both := func(image string) map[string]string { return map[string]string{Agent: image, Guard: "sluice:0"} }
	for name, tc := range map[string]struct {
		phase           phase
		wanted, running string
		since           time.Duration
		want            act
	}{
		"asked":                            {asked, "sluice:1", "sluice:1", 0, actWatch},
		"asked long ago":                   {asked, "sluice:1", "sluice:1", time.Hour, actWatch},
		"watched":                          {watched, "sluice:2", "sluice:2", time.Second, actNothing},
		"just in time":                     {watched, "sluice:2", "sluice:2", time.Minute - 1, actNothing},
		"too late":                         {watched, "sluice:2", "sluice:2", time.Minute, actUndo},
		"too late, and never replaced":     {watched, "sluice:2", "sluice:1", time.Minute, actUndo},
		"confirmed":                        {confirmed, "sluice:2", "sluice:2", time.Hour, actNothing},
		"undone":                           {undone, "sluice:2", "sluice:2", 0, actRestore},
		"undone before it was replaced":    {undone, "sluice:2", "sluice:1", 0, actRestore},
		"undone, and the pod hangs":        {undone, "sluice:1", "sluice:2", 0, actRestart},
		"undone, and applied by the owner": {undone, "sluice:9", "sluice:2", 0, actRestart},
		"undone, and the old one runs":     {undone, "sluice:1", "sluice:1", 0, actSettle},
		"restored":                         {restored, "sluice:1", "sluice:1", time.Hour, actNothing},
	} {
		t.Run(name, func(t *testing.T) {
			r := Record{ID: "x", Part: Agent, From: "sluice:1", To: "sluice:2", Phase: tc.phase}
			got := r.watch(images{both(tc.wanted), both(tc.running)}, tc.since, time.Minute)
			if got != tc.want {
				t.Errorf("it does %q, want %q", got, tc.want)
			}
		})
	}
}

// The agent changes the image of its guard, as long as that is the one before and the step is not late.
func TestWatchOfTheGuard(t *testing.T) {
	r := Record{ID: "x", Part: Guard, From: "sluice:1", To: "sluice:2", Phase: watched}
	for name, tc := range map[string]struct {
		wanted string
		since  time.Duration
		want   act
	}{
		"not changed":              {"sluice:1", time.Second, actChange},
		"changed":                  {"sluice:2", time.Second, actNothing},
		"another, by the owner":    {"sluice:9", time.Second, actNothing},
		"not changed for too long": {"sluice:1", time.Minute, actUndo},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.watch(images{wanted: map[string]string{Guard: tc.wanted}}, tc.since, time.Minute)
			if got != tc.want {
				t.Errorf("it does %q, want %q", got, tc.want)
			}
		})
	}
}

// For how long a step is watched does not change when somebody sets the machine's clock. Once the machine was started
// again, nothing but that clock knows.
func TestWatchedFor(t *testing.T) {
	at := time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC)
	begun := instant{at, "a", time.Hour}
	for name, tc := range map[string]struct {
		begun, now instant
		seen       time.Duration
		want       time.Duration
	}{
		"one boot":                 {begun, instant{at.Add(time.Minute), "a", time.Hour + time.Minute}, 0, time.Minute},
		"set ahead":                {begun, instant{at.AddDate(1, 0, 0), "a", time.Hour + time.Minute}, 0, time.Minute},
		"set back":                 {begun, instant{at.AddDate(-1, 0, 0), "a", 61 * time.Minute}, 0, time.Minute},
		"another boot":             {begun, instant{at.Add(time.Minute), "b", time.Second}, 0, time.Minute},
		"another boot, set back":   {begun, instant{at.AddDate(-1, 0, 0), "b", time.Second}, time.Second, time.Second},
		"without a clock of boots": {instant{wall: at}, instant{wall: at.Add(time.Minute)}, 0, time.Minute},
		"this process knows more":  {begun, instant{at, "a", time.Hour}, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			r := Record{ID: "x", Part: Agent, From: "sluice:1", To: "sluice:2"}.watchedSince(tc.begun)
			if got := r.watchedFor(tc.seen, tc.now); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
	r := Record{ID: "x", Part: Agent, Phase: watched} // of a version that kept no time
	if got := r.watchedFor(time.Second, begun); got != time.Second {
		t.Error(got)
	}
}

// Only what is new, watched, and works confirms a step; once the step was undone, nothing does.
func TestProve(t *testing.T) {
	for name, tc := range map[string]struct {
		phase   phase
		running string
		works   bool
		want    act
	}{
		"it works":             {watched, "sluice:2", true, actConfirm},
		"it does not work yet": {watched, "sluice:2", false, actNothing},
		"the old one works":    {watched, "sluice:1", true, actNothing},
		"nobody watches":       {asked, "sluice:2", true, actNothing},
		"it comes too late":    {undone, "sluice:2", true, actNothing},
		"again":                {confirmed, "sluice:2", true, actNothing},
	} {
		t.Run(name, func(t *testing.T) {
			r := Record{ID: "x", Part: Agent, From: "sluice:1", To: "sluice:2", Phase: tc.phase}
			if got := r.prove(images{running: map[string]string{Agent: tc.running}}, tc.works); got != tc.want {
				t.Errorf("it does %q, want %q", got, tc.want)
			}
		})
	}
}

// A release names a version; the repository stays that of the cell's owner.
func TestInRepository(t *testing.T) {
	const digest = "@sha256:0c9a411990096fa4c02d80e271669881f6472e83e85ca96275ca604f1ec330c2"
	for name, tc := range map[string]struct{ running, named, want string }{
		"a tag":               {"sluice:1", "sluice:2", "sluice:2"},
		"a mirror":            {"mirror:5000/a/sluice:1", "vendor/sluice:2", "mirror:5000/a/sluice:2"},
		"a digest":            {"mirror/sluice:1", "vendor/sluice" + digest, "mirror/sluice" + digest},
		"both":                {"mirror/sluice:1", "vendor/sluice:2" + digest, "mirror/sluice:2" + digest},
		"none runs":           {"mirror:5000/sluice", "vendor/sluice:2", "mirror:5000/sluice:2"},
		"a port is no tag":    {"sluice:1", "vendor:5000/sluice", ""},
		"neither":             {"sluice:1", "sluice", ""},
		"a digest to another": {"sluice" + digest, "sluice:2", "sluice:2"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := inRepository(tc.running, tc.named); got != tc.want {
				t.Errorf("it is %q, want %q", got, tc.want)
			}
		})
	}
}
