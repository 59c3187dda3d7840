package announce

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/flags/repository"
)

func recordPath(s *standing) string {
	return path.Join(repository.RecordsDir, s.a.id, s.c.Name+".yaml")
}

// record asks for a record of what the announcement says now.
func (p *planner) record(s *standing, rec repository.Record) {
	rec.Text = s.a.text
	p.put(s, rec)
}

// ready asks for a record that it is armed, to all but those that are held. It is written again as holds of some come and
// go: so what was held when the time came is known even if nobody was there to see (R43).
func (p *planner) ready(s *standing, rec repository.Record) {
	rec.Outcome, rec.Without = repository.Armed, p.withheld(s)
	rec.Text = s.a.text
	if s.rec == nil || !sameRecord(*s.rec, rec) {
		p.put(s, rec)
	}
}

// publish asks for a record that it is published, to all but those that were held.
func (p *planner) publish(s *standing, rec repository.Record) {
	rec.Outcome, rec.Without = repository.Published, p.withheld(s)
	p.record(s, rec)
}

// withheld gives the cells that are held, or were at its time: of an announcement that others get.
func (p *planner) withheld(s *standing) []string {
	if len(s.holds)+len(s.reach.without) == 0 {
		return nil
	}
	_, names, _ := p.readiness(s)
	return names
}

func sameRecord(a, b repository.Record) bool {
	return a.Outcome == b.Outcome && a.Hash == b.Hash && a.Text == b.Text && a.Commit == b.Commit && a.At.Equal(b.At) &&
		slices.Equal(a.Cells, b.Cells) && slices.Equal(a.Without, b.Without) && a.Reason == b.Reason
}

// miss asks for a record that its time passed in vain.
func (p *planner) miss(s *standing, at time.Time, why string) {
	s.state, s.why = Missed, why
	p.record(s, repository.Record{Outcome: repository.Missed, Hash: s.a.hash, Commit: p.in.Commit, At: at, Reason: why})
}

// disarm asks for a record that what was armed is not any more. It is out of what cells are told before that lands.
func (p *planner) disarm(s *standing, why string) {
	if s.rec == nil || s.rec.Outcome != repository.Armed {
		return
	}
	rec := *s.rec
	rec.Outcome, rec.Reason = repository.Disarmed, why
	p.put(s, rec)
}

// put asks for a record. While time can't be trusted (R10), only for one that turns off.
func (p *planner) put(s *standing, rec repository.Record) {
	if p.in.Doubt != "" && rec.Outcome != repository.Disarmed {
		return
	}
	var words string
	switch rec.Outcome {
	case repository.Armed:
		words = "arm " + s.a.id + " in " + s.c.Name + " for " + stamp(rec.At) + p.evidence(s)
	case repository.Published:
		words = "publish " + s.a.id + " in " + s.c.Name + " as of " + stamp(rec.At) + p.evidence(s)
	case repository.Missed:
		words = s.a.id + " missed " + stamp(rec.At) + " in " + s.c.Name + ": " + rec.Reason
	case repository.Disarmed:
		words = "disarm " + s.a.id + " in " + s.c.Name + ": " + rec.Reason
	}
	p.write(recordPath(s), rec, words)
}

// evidence says what a record rests on, for the commit's message.
func (p *planner) evidence(s *standing) string {
	var by string
	if len(s.a.approvers) > 0 {
		by = "approved by " + strings.Join(s.a.approvers, ", ") + "; "
	}
	ready, held, lacking := p.readiness(s)
	return fmt.Sprintf(" (%s%d of %s ready)", by, len(ready), count(len(ready)+len(held)+lacking, "cell"))
}

// write asks for a file. What it says is made of strings, times and lists of them, which can always be written.
func (p *planner) write(file string, content any, why string) {
	data, err := yaml.Marshal(content)
	if err != nil {
		panic("announce: " + file + ": " + err.Error())
	}
	p.plan.Writes = append(p.plan.Writes, Write{Path: file, Content: data, Why: why})
}
