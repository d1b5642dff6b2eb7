package solve

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"stork/repo"
)

// A testcase is one stage of a libsolv case file.
type testcase struct {
	arch      repo.Arch
	available []*Package
	installed []*Package
	request   Request
	flags     map[string]bool // solver and pool flags
	unknown   []string        // job lines that the reader does not translate
	want      []string        // changes
	problems  []string        // the first text of each problem
}

// readTestcases reads a file in libsolv's testcase format, every stage on its
// own (libsolv, doc/testcase.txt and ext/testcase.c).
func readTestcases(path string) ([]*testcase, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &caseReader{repos: map[string][]*Package{}, flags: map[string]bool{}}
	scanner := bufio.NewScanner(f)
	for n := 1; scanner.Scan(); n++ {
		if err := r.line(scanner.Text()); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	r.finish()
	return r.stages, scanner.Err()
}

type caseReader struct {
	repos   map[string][]*Package
	order   []string
	current string // the repository that packages go to
	arch    repo.Arch
	system  string
	flags   map[string]bool
	jobs    [][]string
	inside  bool // a result block
	stage   *testcase
	stages  []*testcase
}

func (r *caseReader) line(text string) error {
	if inline, ok := strings.CutPrefix(text, "#>"); ok {
		if r.inside {
			return r.result(inline)
		}
		return r.tag(inline)
	}
	fields := strings.Fields(text)
	if len(fields) == 0 || strings.HasPrefix(text, "#") {
		return nil
	}
	switch fields[0] {
	case "repo":
		r.current = fields[1]
		r.order = append(r.order, fields[1])
	case "system":
		r.arch, r.system = repo.Arch(fields[1]), fields[3]
	case "solverflags", "poolflags":
		for _, flag := range fields[1:] {
			off := strings.HasPrefix(flag, "!")
			r.flags[strings.TrimPrefix(flag, "!")] = !off
		}
	case "job":
		r.jobs = append(r.jobs, fields[1:])
	case "result":
		r.inside = true
		r.begin()
	case "nextjob":
		r.finish()
		r.jobs, r.inside = nil, false
		r.flags = without(r.flags, r.flags)
	case "feature":
	default:
		return fmt.Errorf("unknown line %q", text)
	}
	return nil
}

// without keeps pool flags: a new stage resets solver flags only.
func without(all, _ map[string]bool) map[string]bool {
	out := map[string]bool{}
	for flag, on := range all {
		if flag == "implicitobsoleteusescolors" || flag == "noobsoletesmultiversion" {
			out[flag] = on
		}
	}
	return out
}

func (r *caseReader) begin() {
	if r.stage == nil {
		r.stage = &testcase{arch: r.arch, flags: r.flags}
		r.stages = append(r.stages, r.stage)
	}
}

func (r *caseReader) tag(line string) error {
	list := r.repos[r.current]
	if nevra, ok := strings.CutPrefix(line, "=Pkg: "); ok {
		f := strings.Fields(nevra)
		p := &Package{Reason: User}
		if err := parseNEVRA(p, f[0]+"-"+f[1]+"-"+f[2]+"."+f[3]); err != nil {
			return err
		}
		p.Installed = r.current == "system" || r.current == "@System"
		r.repos[r.current] = append(list, p)
		return nil
	}
	key, value, ok := strings.Cut(strings.TrimPrefix(line, "="), ": ")
	if !ok || key == "Ver" {
		return nil
	}
	words := map[string]string{
		"Req": "requires", "Prv": "provides", "Con": "conflicts", "Obs": "obsoletes",
		"Rec": "recommends", "Sug": "suggests", "Sup": "supplements", "Enh": "enhances",
	}
	return addLine(list[len(list)-1], words[key]+": "+translateRich(value))
}

// translateRich turns "A <IF> (B & C)" into "(A if (B and C))".
func translateRich(s string) string {
	if !strings.ContainsAny(s, "&|") && !strings.Contains(s, "<IF>") {
		return s
	}
	return "(" + strings.NewReplacer(" <IF> ", " if ", " & ", " and ", " | ", " or ").Replace(s) + ")"
}

func (r *caseReader) result(line string) error {
	fields := strings.Fields(line)
	for i := range fields {
		if at := strings.Index(fields[i], "@"); at > 0 {
			fields[i] = fields[i][:at]
		}
	}
	switch fields[0] {
	case "install", "erase", "upgrade":
		r.stage.want = append(r.stage.want, strings.Join(fields, " "))
	case "problem":
		if fields[2] == "info" {
			r.stage.problems = append(r.stage.problems, strings.Join(fields[3:], " "))
		}
	case "alternative":
	default:
		return fmt.Errorf("unknown result %q", line)
	}
	return nil
}

// finish makes the stage's request.
func (r *caseReader) finish() {
	if r.stage == nil {
		return
	}
	s := r.stage
	r.stage = nil
	copies := map[*Package]*Package{}
	for _, name := range r.order {
		for _, p := range r.repos[name] {
			c := *p
			copies[p] = &c
			if c.Installed {
				s.installed = append(s.installed, &c)
			} else {
				s.available = append(s.available, &c)
			}
		}
	}
	s.request = Request{
		Arch: s.arch, Installed: s.installed, AllowPublishers: s.flags["allowvendorchange"],
		AllObsoleters: s.flags["yumobsoletes"],
	}
	for _, fields := range r.jobs {
		s.job(fields)
	}
}

// job translates one job line.
func (s *testcase) job(fields []string) {
	action, what := fields[0], strings.Join(fields[1:], " ")
	if before, options, ok := strings.Cut(what, " ["); ok {
		what = before
		s.request.Best = s.request.Best || strings.Contains(options, "forcebest")
	}
	kind, rest, _ := strings.Cut(what, " ")
	switch {
	case action == "multiversion":
		s.multiversion(rest)
	case action == "allowuninstall":
		s.request.AllowErasing = true
	case what == "all packages" && (action == "update" || action == "distupgrade"):
		s.request.AllowDowngrade = action == "distupgrade"
		s.request.Jobs = append(s.request.Jobs, Job{Action: Upgrade})
	case kind == "pkg" || kind == "name":
		s.addJob(action, kind, rest)
	default:
		s.unknown = append(s.unknown, strings.Join(fields, " "))
	}
}

func (s *testcase) multiversion(name string) {
	for _, p := range append(s.installed, s.available...) {
		if p.provides(repo.Capability{Name: name}) {
			p.Multi = true
		}
	}
}

func (s *testcase) addJob(action, kind, what string) {
	actions := map[string]Action{"install": Install, "erase": Remove, "update": Upgrade}
	if kind == "pkg" {
		var p Package
		nevra, _, _ := strings.Cut(what, "@")
		if err := parseNEVRA(&p, nevra); err != nil {
			panic(err)
		}
		what = string(p.Name) + "." + string(p.Arch) + " = " + p.EVR.String()
	}
	spec, err := ParseSpec(what)
	if err != nil {
		panic(err)
	}
	s.request.Jobs = append(s.request.Jobs, Job{Action: actions[action], Spec: spec})
}

// parseNEVRA reads "name-version-release.arch".
func parseNEVRA(p *Package, s string) (err error) {
	dot := strings.LastIndex(s, ".")
	if dot < 0 {
		return fmt.Errorf("no architecture in %q", s)
	}
	release := strings.LastIndex(s[:dot], "-")
	if release < 0 {
		return fmt.Errorf("no release in %q", s)
	}
	version := strings.LastIndex(s[:release], "-")
	if version < 0 {
		return fmt.Errorf("no version in %q", s)
	}
	if p.Name, err = repo.ParseName(s[:version]); err != nil {
		return err
	}
	p.Arch = repo.Arch(s[dot+1:])
	p.EVR, err = repo.ParseEVR(s[version+1 : dot])
	return err
}

// addLine adds a dependency to a package.
func addLine(p *Package, line string) error {
	key, value, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("bad line %q", line)
	}
	lists := map[string]*[]string{
		"requires": &p.Requires, "pre": &p.RequiresPre, "conflicts": &p.Conflicts, "recommends": &p.Recommends,
		"suggests": &p.Suggests, "supplements": &p.Supplements, "enhances": &p.Enhances, "path": &p.Paths,
	}
	if list, ok := lists[key]; ok {
		*list = append(*list, value)
		return nil
	}
	c, err := repo.ParseCapability(value)
	if err != nil {
		return err
	}
	switch key {
	case "provides":
		p.Provides = append(p.Provides, c)
	case "obsoletes":
		p.Obsoletes = append(p.Obsoletes, c)
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	return nil
}
