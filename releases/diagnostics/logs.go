package diagnostics

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LogsCommand is what a person writes to read a log.
const LogsCommand = "logs"

// Bounds of logs.
const (
	MaxLogs      = 500 // of a release: those it declares, and those of its workloads
	MaxDeclared  = 50  // that diagnostics.yaml declares
	MaxLabels    = 8
	MaxTail      = 10000 // lines of one file, unit or container
	DefaultTail  = 100
	MaxSince     = 7 * 24 * time.Hour
	LogTimeout   = time.Minute // of a read that does not follow
	MaxLogOutput = MaxOutput   // bytes of one read

	maxObjectName = 253
)

// Log is a log that the scope logs permits to read. It is one of a unit, a file, or pods.
type Log struct {
	Name        string `yaml:"name" json:"name" required:"true" doc:"in lower-case letters, digits and dashes"`
	Description string `yaml:"description,omitempty" json:"description,omitempty" doc:"one line, for the person who debugs and for the cell's owner"`
	Unit        string `yaml:"unit,omitempty" json:"unit,omitempty" doc:"of systemd, such as shop.service: what its journal has"`
	File        string `yaml:"file,omitempty" json:"file,omitempty" doc:"its absolute path on the agent's machine"`
	Pods        *Pods  `yaml:"pods,omitempty" json:"pods,omitempty" doc:"of a cluster, whose containers' logs are read"`
}

// Pods are pods of a cluster: those of a workload, or those that have some labels.
type Pods struct {
	Namespace string            `yaml:"namespace,omitempty" json:"namespace,omitempty" doc:"default: the one of objects that name none"`
	Workload  string            `yaml:"workload,omitempty" json:"workload,omitempty" doc:"KIND/NAME: a deployment, statefulset, daemonset, job, cronjob or pod"`
	Labels    map[string]string `yaml:"labels,omitempty" json:"labels,omitempty" doc:"that the pods have, all of them"`
}

// WorkloadKinds returns the kinds of workloads whose pods' logs can be read, with their API group.
func WorkloadKinds() map[string]string {
	return map[string]string{"deployment": "apps", "statefulset": "apps", "daemonset": "apps", "job": "batch",
		"cronjob": "batch", "pod": ""}
}

// Logs are the logs that may be read.
type Logs []Log

// With returns the logs with those of more whose names are new, as far as there may be so many.
func (l Logs) With(more Logs) Logs {
	names := map[string]bool{}
	for i := range l {
		names[l[i].Name] = true
	}
	all := slices.Clip(l)
	for _, log := range more {
		if !names[log.Name] && len(all) < MaxLogs {
			names[log.Name] = true
			all = append(all, log)
		}
	}
	return all
}

// LogRead is what a person asked to read.
type LogRead struct {
	Log       Log
	Since     time.Duration // 0: whatever its age
	Tail      int           // the newest lines at most, of each container
	Follow    bool
	Previous  bool   // of containers: what ran before it was started again
	Container string // the only one of each pod; empty: all
}

const logsUsage = "write logs NAME [--since 10m] [--tail 200] [--follow], and for pods [--previous] [--container NAME]"

// Resolve returns what a person asked for in one line: logs NAME with options. NAME may lack the kind of a workload, if
// only one has that name.
func (l Logs) Resolve(line string) (LogRead, error) {
	r := LogRead{}
	if len(line) > maxLine {
		return r, fmt.Errorf("a command has at most %d bytes", maxLine)
	}
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != LogsCommand {
		return r, errors.New("this session reads logs and nothing else: " + logsUsage + "; logs alone lists them")
	}
	names, err := r.parse(words[1:])
	if err != nil {
		return r, err
	}
	if len(names) != 1 {
		return r, errors.New("name one log: " + logsUsage)
	}
	if r.Log, err = l.find(names[0]); err != nil {
		return r, err
	}
	return r, r.check()
}

// parse reads the words of a line after its first, and returns those that are no option.
func (r *LogRead) parse(words []string) (names []string, err error) {
	f := flag.NewFlagSet(LogsCommand, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.DurationVar(&r.Since, "since", 0, "")
	f.IntVar(&r.Tail, "tail", 0, "")
	for name, to := range map[string]*bool{"follow": &r.Follow, "f": &r.Follow, "previous": &r.Previous,
		"p": &r.Previous} {
		f.BoolVar(to, name, false, "")
	}
	f.StringVar(&r.Container, "container", "", "")
	f.StringVar(&r.Container, "c", "", "")
	for {
		switch err := f.Parse(words); {
		case errors.Is(err, flag.ErrHelp):
			return nil, errors.New(logsUsage)
		case err != nil:
			return nil, fmt.Errorf("%w: %s", err, logsUsage)
		case f.NArg() == 0:
			return names, nil
		}
		names, words = append(names, f.Arg(0)), f.Args()[1:]
	}
}

func (l Logs) find(name string) (Log, error) {
	var found []Log
	var names []string
	for _, log := range l {
		if log.Name == name {
			return log, nil
		}
		if strings.HasSuffix(log.Name, "/"+name) {
			found, names = append(found, log), append(names, log.Name)
		}
	}
	switch len(found) {
	case 0:
		return Log{}, fmt.Errorf("there is no log %.80q that may be read: logs alone lists them", name)
	case 1:
		return found[0], nil
	}
	return Log{}, fmt.Errorf("several logs end in %.80q: name one of %s", name, strings.Join(names, ", "))
}

// check checks the options, and sets those that have a default.
func (r *LogRead) check() error {
	switch {
	case r.Since < 0 || r.Since > MaxSince:
		return fmt.Errorf("--since %s: up to %s is possible", r.Since, MaxSince)
	case r.Tail < 0 || r.Tail > MaxTail:
		return fmt.Errorf("--tail %d: 1 to %d is possible", r.Tail, MaxTail)
	case r.Log.File != "" && r.Since != 0:
		return fmt.Errorf("--since: the lines of a file have no times that Sluice knows; use --tail")
	case r.Log.Pods == nil && (r.Previous || r.Container != ""):
		return fmt.Errorf("--previous and --container are for logs of pods, and %s has none", r.Log.Name)
	case r.Previous && r.Follow:
		return errors.New("--previous and --follow: what ran before writes nothing any more")
	case len(r.Container) > maxObjectName || r.Container != "" && !nameValue().MatchString(r.Container):
		return fmt.Errorf("--container %.80q: it is no name", r.Container)
	case r.Tail == 0 && r.Since == 0:
		r.Tail = DefaultTail
	case r.Tail == 0:
		r.Tail = MaxTail
	}
	return nil
}

// Args returns the program, with its arguments, that reads the journal of a unit; none: it is another log.
func (r *LogRead) Args() []string {
	if r.Log.Unit == "" {
		return nil
	}
	args := []string{"journalctl", "--unit=" + r.Log.Unit, "--no-pager", "--output=short-iso",
		"--lines=" + strconv.Itoa(r.Tail)}
	if r.Since > 0 {
		args = append(args, fmt.Sprintf("--since=-%ds", int(r.Since.Round(time.Second)/time.Second)))
	}
	if r.Follow {
		args = append(args, "--follow")
	}
	return args
}

// describe says where the log is.
func (l *Log) describe() string {
	switch {
	case l.Unit != "":
		return "the journal of " + l.Unit
	case l.File != "":
		return "the file " + l.File
	}
	in := ""
	if l.Pods.Namespace != "" {
		in = " in namespace " + l.Pods.Namespace
	}
	if l.Pods.Workload != "" {
		return "the pods of " + l.Pods.Workload + in
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(l.Pods.Labels)) {
		labels = append(labels, name+"="+l.Pods.Labels[name])
	}
	return "the pods with " + strings.Join(labels, ", ") + in
}

// Help returns the logs as a person reads them, one after the other.
func (l Logs) Help() string {
	if len(l) == 0 {
		return "There are no logs that may be read.\n"
	}
	var b strings.Builder
	for i := range l {
		fmt.Fprintf(&b, "%s\n    reads: %s\n", l[i].Name, l[i].describe())
		if l[i].Description != "" {
			fmt.Fprintf(&b, "    %s\n", l[i].Description)
		}
	}
	return b.String()
}

var (
	unitName = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,254}$`)
	})
	objectName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`) })
	labelName  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	})
	labelValue = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$`)
	})
)

// IsObjectName reports whether a name can be one of an object of Kubernetes. Others would stand in a path of its API.
func IsObjectName(name string) bool {
	return len(name) <= maxObjectName && objectName().MatchString(name)
}

func (c *checker) checkLogs(all []Log) {
	if len(all) > MaxDeclared {
		c.refuse("logs", "has more than %d entries", MaxDeclared)
		return
	}
	names := map[string]bool{}
	for i := range all {
		at, l := fmt.Sprintf("logs[%d]", i), &all[i]
		c.checkName(at+".name", l.Name, names)
		c.checkText(at+".description", l.Description)
		kinds := 0
		for _, is := range []bool{l.Unit != "", l.File != "", l.Pods != nil} {
			if is {
				kinds++
			}
		}
		if kinds != 1 {
			c.refuse(at, "a log has one of unit, file and pods")
		}
		if l.Unit != "" && !unitName().MatchString(l.Unit) {
			c.refuse(at+".unit", "%.80q: use the name of one unit, such as shop.service", l.Unit)
		}
		if l.File != "" && !isLogPath(l.File) {
			c.refuse(at+".file", "%.80q: use the absolute path of a file, without .. and not below /dev, /proc or /sys",
				l.File)
		}
		if l.Pods != nil {
			c.checkPods(at+".pods", l.Pods)
		}
	}
}

// isLogPath reports whether a path can be one of a log: what is below /dev may have no end.
func isLogPath(name string) bool {
	top, _, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	return path.IsAbs(name) && path.Clean(name) == name && name != "/" && len(name) <= MaxWord &&
		!slices.Contains([]string{"dev", "proc", "sys"}, top) &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (c *checker) checkPods(at string, p *Pods) {
	if p.Namespace != "" && (len(p.Namespace) > 63 || !IsObjectName(p.Namespace)) {
		c.refuse(at+".namespace", "%.80q: it is no name of a namespace", p.Namespace)
	}
	if (p.Workload == "") == (len(p.Labels) == 0) || len(p.Labels) > MaxLabels {
		c.refuse(at, "pods are those of a workload, or those with 1 to %d labels", MaxLabels)
	}
	if p.Workload != "" {
		kind, name, _ := strings.Cut(p.Workload, "/")
		if _, known := WorkloadKinds()[kind]; !known || !IsObjectName(name) {
			c.refuse(at+".workload", "%.80q: use KIND/NAME, and for KIND %s", p.Workload,
				strings.Join(slices.Sorted(maps.Keys(WorkloadKinds())), ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Labels)) {
		if len(name) > maxObjectName || !labelName().MatchString(name) || !labelValue().MatchString(p.Labels[name]) {
			c.refuse(at+".labels", "%.80q: it is no name of a label, or its value is none", name)
		}
	}
}
