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

func (s *channelState) recordPath() string {
	return path.Join(repository.RecordsDir, s.announcement.id, s.channel.Name+".yaml")
}

// writeRecord adds a write of a record for the announcement's current text.
func (s *channelState) writeRecord(rec repository.Record) {
	rec.Text = s.announcement.text
	s.putRecord(rec)
}

// arm records the announcement as armed for all cells but the held ones. The record follows holds of some cells as they
// come and go, so that the cells held at the time are known even if the engine is down then (R43).
func (s *channelState) arm(f finding) {
	f.basis.Outcome, f.basis.Without = repository.Armed, s.withheldCells()
	s.writeRecord(f.basis)
}

// publish records the announcement as published for all cells but the held ones.
func (s *channelState) publish(rec repository.Record) {
	rec.Outcome, rec.Without = repository.Published, s.withheldCells()
	s.writeRecord(rec)
}

// withheldCells returns the cells that are held, or were held at the time, of an announcement that other cells get.
func (s *scope) withheldCells() []string {
	if len(s.holds)+len(s.reach.without) == 0 {
		return nil
	}
	_, names, _ := s.readyCells()
	return names
}

func sameRecord(a, b repository.Record) bool {
	return a.Outcome == b.Outcome && a.Hash == b.Hash && a.Text == b.Text && a.Commit == b.Commit && a.At.Equal(b.At) &&
		slices.Equal(a.Cells, b.Cells) && slices.Equal(a.Without, b.Without) && a.Reason == b.Reason
}

// recordMiss records that the time passed without publication.
func (s *channelState) recordMiss(f finding) {
	if f.obstacle == unapproved { // approvals that come later don't change what was missing
		f.explanation = strings.NewReplacer(" is missing", " was missing when its time came",
			" are missing", " were missing when its time came").Replace(f.explanation)
		s.reason = f.explanation
	}
	s.writeRecord(repository.Record{
		Outcome: repository.Missed, Hash: s.announcement.hash, Commit: s.planner.input.Commit, At: f.basis.At,
		Reason: f.explanation,
	})
}

// disarm records that an armed announcement is armed no more. Cells lose the gate before the commit lands.
func (s *channelState) disarm(f finding) {
	if s.record != nil && s.record.Outcome == repository.Armed {
		rec := *s.record
		rec.Outcome, rec.Reason = repository.Disarmed, f.reason
		s.putRecord(rec)
	}
}

// recordHold disarms; without a record it records the hold, so that a time that passes meanwhile is missed even if
// nothing sees it pass (R43).
func (s *channelState) recordHold(f finding) {
	if s.disarm(f); s.record == nil {
		s.writeRecord(repository.Record{
			Outcome: repository.Disarmed, Hash: s.announcement.hash, Commit: s.planner.input.Commit, At: s.at,
			Reason: f.explanation,
		})
	}
}

// putRecord adds a write for a record that differs from the committed one. While time can't be trusted (R10), only
// disarming is recorded.
func (s *channelState) putRecord(rec repository.Record) {
	if s.planner.input.Doubt != "" && rec.Outcome != repository.Disarmed ||
		s.record != nil && sameRecord(*s.record, rec) {
		return
	}
	var why string
	switch rec.Outcome {
	case repository.Armed:
		why = "arm " + s.announcement.id + " in " + s.channel.Name + " for " + formatTime(rec.At) + s.describeEvidence()
	case repository.Published:
		why = "publish " + s.announcement.id + " in " + s.channel.Name + " as of " + formatTime(rec.At) +
			s.describeEvidence()
	case repository.Missed:
		why = s.announcement.id + " missed " + formatTime(rec.At) + " in " + s.channel.Name + ": " + rec.Reason
	case repository.Disarmed:
		why = "disarm " + s.announcement.id + " in " + s.channel.Name + ": " + rec.Reason
	}
	s.planner.addWrite(s.recordPath(), rec, why)
}

// describeEvidence says what a record rests on, for the commit's message.
func (s *channelState) describeEvidence() string {
	var by string
	if len(s.announcement.approvers) > 0 {
		by = "approved by " + strings.Join(s.announcement.approvers, ", ") + "; "
	}
	ready, held, lacking := s.readyCells()
	return fmt.Sprintf(" (%s%d of %s ready)", by, len(ready), words.Count(len(ready)+len(held)+lacking, "cell"))
}

// addWrite adds a file to the plan. Content consists of strings, times and lists, so marshalling can't fail.
func (p *planner) addWrite(file string, content any, why string) {
	data, err := yaml.Marshal(content)
	if err != nil {
		panic("announce: " + file + ": " + err.Error())
	}
	p.plan.Writes = append(p.plan.Writes, Write{Path: file, Content: data, Why: why})
}
