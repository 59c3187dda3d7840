package announce

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

func (s *channelState) path() string {
	return path.Join(repository.RecordsDir, s.a.id, s.c.Name+".yaml")
}

// record asks for a record of what the announcement says now.
func (s *channelState) record(rec repository.Record) {
	rec.Text = s.a.text
	s.put(rec)
}

// arm asks for a record that it is armed, to all but those that are held. It is written again as holds of some come and go: so
// what was held when the time came is known even if nobody was there to see (R43).
func (s *channelState) arm(f finding) {
	f.basis.Outcome, f.basis.Without = repository.Armed, s.withheld()
	s.record(f.basis)
}

// publish asks for a record that it is published, to all but those that were held.
func (s *channelState) publish(rec repository.Record) {
	rec.Outcome, rec.Without = repository.Published, s.withheld()
	s.record(rec)
}

// withheld gives the cells that are held, or were at its time: of an announcement that others get.
func (s *scope) withheld() []string {
	if len(s.holds)+len(s.reach.without) == 0 {
		return nil
	}
	_, names, _ := s.readiness()
	return names
}

func sameRecord(a, b repository.Record) bool {
	return a.Outcome == b.Outcome && a.Hash == b.Hash && a.Text == b.Text && a.Commit == b.Commit && a.At.Equal(b.At) &&
		slices.Equal(a.Cells, b.Cells) && slices.Equal(a.Without, b.Without) && a.Reason == b.Reason
}

// miss asks for a record that its time passed in vain.
func (s *channelState) miss(f finding) {
	s.record(repository.Record{Outcome: repository.Missed, Hash: s.a.hash, Commit: s.p.in.Commit, At: f.basis.At, Reason: f.why})
}

// disarm asks for a record that what was armed is not any more. It is out of what cells are told before that lands.
func (s *channelState) disarm(f finding) {
	if s.rec != nil && s.rec.Outcome == repository.Armed {
		rec := *s.rec
		rec.Outcome, rec.Reason = repository.Disarmed, f.reason
		s.put(rec)
	}
}

// remember is disarm and, if there is no record, asks for one that it was held, lest its time pass unseen (R43).
func (s *channelState) remember(f finding) {
	if s.disarm(f); s.rec == nil {
		s.record(repository.Record{Outcome: repository.Disarmed, Hash: s.a.hash, Commit: s.p.in.Commit, At: s.at, Reason: f.why})
	}
}

// put asks for a record that is not there yet. While time can't be trusted (R10), only for one that turns off.
func (s *channelState) put(rec repository.Record) {
	if s.p.in.Doubt != "" && rec.Outcome != repository.Disarmed || s.rec != nil && sameRecord(*s.rec, rec) {
		return
	}
	var why string
	switch rec.Outcome {
	case repository.Armed:
		why = "arm " + s.a.id + " in " + s.c.Name + " for " + stamp(rec.At) + s.evidence()
	case repository.Published:
		why = "publish " + s.a.id + " in " + s.c.Name + " as of " + stamp(rec.At) + s.evidence()
	case repository.Missed:
		why = s.a.id + " missed " + stamp(rec.At) + " in " + s.c.Name + ": " + rec.Reason
	case repository.Disarmed:
		why = "disarm " + s.a.id + " in " + s.c.Name + ": " + rec.Reason
	}
	s.p.write(s.path(), rec, why)
}

// evidence says what a record rests on, for the commit's message.
func (s *channelState) evidence() string {
	var by string
	if len(s.a.approvers) > 0 {
		by = "approved by " + strings.Join(s.a.approvers, ", ") + "; "
	}
	ready, held, lacking := s.readiness()
	return fmt.Sprintf(" (%s%d of %s ready)", by, len(ready), words.Count(len(ready)+len(held)+lacking, "cell"))
}

// write asks for a file. What it says is made of strings, times and lists of them, which can always be written.
func (p *planner) write(file string, content any, why string) {
	data, err := yaml.Marshal(content)
	if err != nil {
		panic("announce: " + file + ": " + err.Error())
	}
	p.plan.Writes = append(p.plan.Writes, Write{Path: file, Content: data, Why: why})
}
