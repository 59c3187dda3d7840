// Package reason names what a verdict can say, and is the only place where its words are made: a Code, with its arguments, gives the
// sentence that people read. Code decides by the Code, never by the sentence.
//
// It is pure, and knows nothing of gates or cells. Names are stable, as the API and docs/gates.md have them; the numbers are not,
// and are never stored. Everything may be called at once.
package reason

import (
	"fmt"
	"strings"
)

// Code is a reason without its arguments. It is a byte, since plans have verdicts by the thousand; as text it is its name.
type Code uint8

// What gates say. Held: what let a release pass.
const (
	Unknown Code = iota // not said, or by a newer program

	// The policy's gates.
	SoakHeld
	SoakShort
	SoakImpossible
	UpstreamFinished
	UpstreamAccepted
	UpstreamMissing
	UpstreamElsewhere
	UpstreamFailed
	UpstreamUnfinished
	WindowOpen
	WindowShut
	ApprovalHeld
	ApprovalMissing
	WhenTrue
	WhenFalse
	WhenInvalid
	WhenFailed
	AnswerYes
	AnswerNo
	AnswerFailed
	AnswerMissing
	AnswerOld

	// What every channel has.
	PolicyInvalid
	ReleaseInvalid
	DigestMissing
	CellInvalid
	Hold
	Quarantine
	QuarantineStays
	NotFrozen
	Frozen
	FreezeOverridden
	HeadFinished
	HeadAccepted
	HeadFailed
	HeadTimedOut
	HeadUnfinished
	HeadUnaccepted
	Manual
	PeopleFree
	Prerelease
	Floor
	Debt
	HotfixOpen
	HotfixMissing
	HotfixBelow
	RequestFault
	RequestUnknown
	RequestDown
	RequestDone
	ClockStepped
	ClockStore
	ClockCells
	Observing
	Diverged
	PushRefused
	IdentitiesRefused
	KeyUnlisted
	KeyUnlistable
	KeyRefused

	// What holds single cells.
	Infrastructure
	TooOld
	ForwardOnly
	ValuesInvalid
	CellPaused
	CellPinned
	OwnerPaused
	OwnerPinned
	OwnerApproval
	OwnerWindow
	Failed
	Silent
	Wave
	Slots

	end
)

// theOwner is who decides on a cell's machine, where the words don't follow the cell's name.
const theOwner = "the cell's owner"

type entry struct {
	name  string
	words string // a format for the arguments; a person's own text, or another part's, is an argument too
	alone string // the words without arguments, where words has some
}

// table gives each code its name and words.
var table = [end]entry{
	SoakHeld:           {name: "soak-held", words: "%d of %s healthy for %s"},
	SoakShort:          {name: "soak-short", words: "%s: %d of %s healthy for %s, needs %d%s"},
	SoakImpossible:     {name: "soak-impossible", words: "impossible: needs %s, %s has %d"},
	UpstreamFinished:   {name: "upstream-finished", words: "%s finished it"},
	UpstreamAccepted:   {name: "upstream-accepted", words: "%s"},
	UpstreamMissing:    {name: "upstream-missing", words: "the upstream does not exist"},
	UpstreamElsewhere:  {name: "upstream-elsewhere", words: "%s does not run it"},
	UpstreamFailed:     {name: "upstream-failed", words: "%s failed in %s"},
	UpstreamUnfinished: {name: "upstream-unfinished", words: "%s: %d of %d cells run it"},
	WindowOpen:         {name: "window-open"},
	WindowShut:         {name: "window-shut", words: "%s"},
	ApprovalHeld:       {name: "approval-held", words: "%d of %d: %s"},
	ApprovalMissing:    {name: "approval-missing", words: "%d of %d%s%s"},
	WhenTrue:           {name: "when-true", words: "%s"},
	WhenFalse:          {name: "when-false", words: "not so: %s"},
	WhenInvalid:        {name: "when-invalid", words: "%s"},
	WhenFailed:         {name: "when-failed", words: "can't be evaluated: %s"},
	AnswerYes:          {name: "answer-yes", words: "%s"},
	AnswerNo:           {name: "answer-no", words: "the answer was no: %s", alone: "the answer was no"},
	AnswerFailed:       {name: "answer-failed", words: "%s"},
	AnswerMissing:      {name: "answer-missing", words: "not asked yet"},
	AnswerOld:          {name: "answer-old", words: "the last answer is too old"},

	PolicyInvalid:     {name: "policy-invalid", words: "%s", alone: "the policy has faults; run sluice validate"},
	ReleaseInvalid:    {name: "release-invalid", words: "%s"},
	DigestMissing:     {name: "digest-missing", words: "release %s has no digest; run sluice validate"},
	CellInvalid:       {name: "cell-invalid", words: "%s"},
	Hold:              {name: "hold", words: "%s (%s)"},
	Quarantine:        {name: "quarantine", words: "%s"},
	QuarantineStays:   {name: "quarantine-stays", words: "%s; %s"},
	NotFrozen:         {name: "not-frozen"},
	Frozen:            {name: "frozen", words: "%s", alone: "frozen"},
	FreezeOverridden:  {name: "freeze-overridden", words: "overridden by %s: %s"},
	HeadFinished:      {name: "head-finished", words: "%s is rolled out"},
	HeadAccepted:      {name: "head-accepted", words: "%s accepted %s"},
	HeadFailed:        {name: "head-failed", words: "%s failed"},
	HeadTimedOut:      {name: "head-timed-out", words: "%s had its time"},
	HeadUnfinished:    {name: "head-unfinished", words: "keeps %s until it is rolled out"},
	HeadUnaccepted:    {name: "head-unaccepted", words: "keeps %s until %s accepted it"},
	Manual:            {name: "manual", words: "a person promotes here: sluice promote %s --to %s"},
	PeopleFree:        {name: "people-free", words: "gates do not bind people here"},
	Prerelease:        {name: "prerelease", words: "%s takes no pre-releases"},
	Floor:             {name: "floor", words: "it is below %s"},
	Debt:              {name: "debt", words: "it lacks %s, which hotfix %s brought; list it in fixes, or close %s"},
	HotfixOpen:        {name: "hotfix-open", words: "%s"},
	HotfixMissing:     {name: "hotfix-missing", words: "%s names %s with digest %s, which is not in the repository"},
	HotfixBelow:       {name: "hotfix-below", words: "%s is below the head %s, and a hotfix only goes up: cut a greater version"},
	RequestFault:      {name: "request-fault", words: "%s; the head stays"},
	RequestUnknown:    {name: "request-unknown", words: "%s asks for %s, which is not in the repository"},
	RequestDown:       {name: "request-down", words: "%s asks to go back to %s: %s"},
	RequestDone:       {name: "request-done", words: "%s asks for %s, which is the head already; the head's other fields are the engine's"},
	ClockStepped:      {name: "clock-stepped", words: "this machine's clock was stepped by %s; check its time service"},
	ClockStore:        {name: "clock-store", words: "the store's clock differs from this machine's by %s; check their time services"},
	ClockCells:        {name: "clock-cells", words: "the cells' clocks differ from this one by %s in the median; check its time service"},
	Observing:         {name: "observing", words: "not every cell has reported since observing began"},
	Diverged:          {name: "diverged", words: "the branch was force-pushed, or merged the wrong way round: %s was acted upon and is not among its first parents. Look at it, then accept the branch as it is: git commit --allow-empty -m 'accept the branch' -m '%s: %s'"},
	PushRefused:       {name: "push-refused", words: "%s"},
	IdentitiesRefused: {name: "identities-refused", words: "cells' identities: %s"},
	KeyUnlisted:       {name: "key-unlisted", words: "engine.keys in sluice.yaml does not list this engine's key, %s, so what it commits would not count: give it the engine.key of a replica that works or of the backup, or have a listed key list this one: sluice engine-key add"},
	KeyUnlistable:     {name: "key-unlistable", words: "the engine's key can't be listed in sluice.yaml, which is missing or has faults: until it is, whoever may push may promote"},
	KeyRefused:        {name: "key-refused", words: "the engine's key is not listed in sluice.yaml yet: %s"},

	Infrastructure: {name: "infrastructure", words: "%s needs infrastructure %d, the cell has %d"},
	TooOld:         {name: "too-old", words: "%s installs over %s or later, the cell runs %s"},
	ForwardOnly:    {name: "forward-only", words: "the cell runs %s, and %s is forward-only"},
	ValuesInvalid:  {name: "values-invalid", words: "%s"},
	CellPaused:     {name: "cell-paused", words: "%s"},
	CellPinned:     {name: "cell-pinned", words: "pinned to %s"},
	OwnerPaused:    {name: "owner-paused", words: "paused by " + theOwner + ": %s"},
	OwnerPinned:    {name: "owner-pinned", words: "pinned to %s by " + theOwner},
	OwnerApproval:  {name: "owner-approval", words: "%s waits for the approval of " + theOwner + ": sluice cell approve, on the cell's machine"},
	OwnerWindow:    {name: "owner-window", words: "outside the windows of " + theOwner + ": %s"},
	Failed:         {name: "failed", words: "%s failed: %s; %s tried, not this again"},
	Silent:         {name: "silent", words: "not heard of since %s"},
	Wave:           {name: "wave", words: "%s"}, // made in one piece of memory, by the thousand
	Slots:          {name: "slots", words: "updating at once: at most %s"},
}

// Words gives the reason as people read it. Those of WindowOpen and NotFrozen are none: the gate's name and the instant say all.
func (c Code) Words(args ...any) string {
	if c >= end {
		return ""
	}
	e := &table[c]
	switch {
	case len(args) == 0 && e.alone != "":
		return e.alone
	case len(args) == 0:
		return e.words
	case e.words == "%s":
		if text, ok := args[0].(string); ok {
			return text
		}
	}
	return fmt.Sprintf(e.words, args...)
}

// AfterName gives words that Words made of c as they follow a cell's name or gate: "the cell's owner" is "its owner" there.
func (c Code) AfterName(words string) string {
	switch c {
	case OwnerPaused, OwnerPinned, OwnerApproval, OwnerWindow:
		return strings.Replace(words, theOwner, "its owner", 1)
	}
	return words
}

// String is the code's name; none of Unknown.
func (c Code) String() string {
	if c >= end {
		return ""
	}
	return table[c].name
}

// MarshalText gives the code's name.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText takes a name. One that is not known comes from a newer program: Unknown, and the words say it.
func (c *Code) UnmarshalText(name []byte) error {
	*c = Unknown
	for i := range table {
		if table[i].name == string(name) {
			*c = Code(i)
		}
	}
	return nil
}

// Codes returns every code there is.
func Codes() []Code {
	all := make([]Code, 0, end-1)
	for c := Unknown + 1; c < end; c++ {
		all = append(all, c)
	}
	return all
}
