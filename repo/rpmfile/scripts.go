package rpmfile

import (
	"unicode/utf8"

	"stork/repo"
)

// shell runs scriptlets of packages that name no interpreter.
const shell = "/bin/sh"

// scriptletTags are the tags of each scriptlet, in the order of the record.
var scriptletTags = []struct {
	phase               repo.Phase
	script, prog, flags int
}{
	{repo.PreTrans, tagPreTrans, tagPreTransProg, tagPreTransFlags},
	{repo.Pre, tagPreIn, tagPreInProg, tagPreInFlags},
	{repo.Post, tagPostIn, tagPostInProg, tagPostInFlags},
	{repo.PostTrans, tagPostTrans, tagPostTransProg, tagPostTransFlags},
	{repo.PreUnTrans, tagPreUnTrans, tagPreUnTransProg, tagPreUnTransFlags},
	{repo.PreUn, tagPreUn, tagPreUnProg, tagPreUnFlags},
	{repo.PostUn, tagPostUn, tagPostUnProg, tagPostUnFlags},
	{repo.PostUnTran, tagPostUnTrans, tagPostUnTransProg, tagPostUnTransFlags},
	{repo.Verify, tagVerifyScript, tagVerifyScriptProg, tagVerifyFlags},
}

// Bits of scriptlet flags (rpm's include/rpm/rpmds.h).
const (
	scriptExpand = 1 << 0 // macros are expanded when it runs
	scriptFormat = 1 << 1 // header tags are expanded when it runs
)

func checkScriptFlags(h *header, flags int64) {
	if flags&(scriptExpand|scriptFormat) != 0 {
		h.fail(unsupported("a scriptlet wants macros or tags expanded when it runs (%%post -e, -q)"))
	}
}

// checkScripts refuses what could not stand in a record unchanged.
func checkScripts(h *header, scripts []string) {
	for _, s := range scripts {
		if !utf8.ValidString(s) {
			h.fail(malformed("a scriptlet is not UTF-8"))
		}
	}
}

// scriptlets reads the package's own scriptlets.
func scriptlets(h *header) []repo.Scriptlet {
	var all []repo.Scriptlet
	for _, t := range scriptletTags {
		script, program := h.text(t.script), h.names(t.prog)
		checkScripts(h, []string{script})
		checkScriptFlags(h, h.int(t.flags))
		if script == "" && len(program) == 0 {
			continue
		}
		if len(program) == 0 {
			program = []string{shell}
		}
		all = append(all, repo.Scriptlet{Interpreter: program, Phase: t.phase, Script: script})
	}
	return all
}

// triggerTable is one kind of trigger as headers have it: scripts with their
// interpreters, and rows of conditions that point at scripts.
type triggerTable struct {
	scripts, programs []string
	rows              []dependency
	scriptOf          []int64
}

func readTriggerTable(h *header, scripts, progs, scriptFlags, names, flags, versions, index int) triggerTable {
	t := triggerTable{scripts: h.strings(scripts), rows: dependencies(h, names, flags, versions)}
	checkScripts(h, t.scripts)
	t.programs = column(h, progs, h.names(progs), len(t.scripts), true)
	for _, flags := range h.ints(scriptFlags) {
		checkScriptFlags(h, flags)
	}
	t.scriptOf = column(h, index, h.ints(index), len(t.rows), false)
	for _, n := range t.scriptOf {
		if n >= int64(len(t.scripts)) {
			h.fail(malformed("a trigger has no script"))
			return triggerTable{}
		}
	}
	return t
}

// conditions returns the rows of each script. A script without rows never
// runs.
func (t *triggerTable) conditions() map[int][]dependency {
	rows := make(map[int][]dependency)
	for i, d := range t.rows {
		n := int(t.scriptOf[i])
		rows[n] = append(rows[n], d)
	}
	return rows
}

func (t *triggerTable) interpreter(n int) []string {
	if t.programs[n] == "" {
		return []string{shell}
	}
	return []string{t.programs[n]}
}

// triggers reads the package's triggers, in the package's order.
func triggers(h *header) []repo.Trigger {
	t := readTriggerTable(h, tagTriggerScripts, tagTriggerScriptProg, tagTriggerSFlags,
		tagTriggerName, tagTriggerFlags, tagTriggerVersion, tagTriggerIndex)
	phases := []phaseBit{{senseTriggerPreIn, repo.TriggerPreIn}, {senseTriggerIn, repo.TriggerIn},
		{senseTriggerUn, repo.TriggerUn}, {senseTriggerPost, repo.TriggerPostUn}}
	conditions := t.conditions()
	var all []repo.Trigger
	for n := range t.scripts {
		var on []repo.Capability
		for _, d := range conditions[n] {
			c, err := repo.ParseCapability(d.text())
			if err != nil {
				h.fail(malformed("%w", err))
			}
			on = append(on, c)
		}
		if len(on) > 0 {
			all = append(all, repo.Trigger{Interpreter: t.interpreter(n), On: sortedCapabilities(on),
				Phase: phaseOf(h, conditions[n], phases), Script: t.scripts[n]})
		}
	}
	return all
}

// phaseBit is what a flag on a trigger's condition says of when it runs.
type phaseBit struct {
	bit   int64
	phase repo.Phase
}

// phaseOf returns the one phase that all rows name.
func phaseOf(h *header, rows []dependency, phases []phaseBit) repo.Phase {
	var found repo.Phase
	for _, d := range rows {
		for _, p := range phases {
			if d.flags&p.bit == 0 {
				continue
			}
			if found != "" && found != p.phase {
				h.fail(malformed("a trigger has the phases %s and %s", found, p.phase))
			}
			found = p.phase
		}
	}
	if found == "" {
		h.fail(malformed("a trigger on %q has no phase", rows[0].name))
	}
	return found
}

// defaultPriority is what rpmbuild gives to file triggers.
const defaultPriority = 1_000_000

// fileTriggers reads both kinds of file triggers, in the package's order.
func fileTriggers(h *header) []repo.FileTrigger {
	perPackage := readTriggerTable(h, tagFileTriggerScripts, tagFileTriggerProg, tagFileTriggerSFlags,
		tagFileTriggerName, tagFileTriggerFlags, tagFileTriggerVersion, tagFileTriggerIndex)
	perTransaction := readTriggerTable(h, tagTransFileTriggerScripts, tagTransFileTriggerProg, tagTransFileTriggerSFlags,
		tagTransFileTriggerName, tagTransFileTriggerFlags, tagTransFileTriggerVer, tagTransFileTriggerIndex)
	all := fileTriggerList(h, perPackage, tagFileTriggerPriority, []phaseBit{{senseTriggerIn, repo.FileTriggerIn},
		{senseTriggerUn, repo.FileTriggerUn}, {senseTriggerPost, repo.FileTriggerPostUn}})
	return append(all, fileTriggerList(h, perTransaction, tagTransFileTriggerPrio, []phaseBit{
		{senseTriggerIn, repo.TransFileTriggerIn}, {senseTriggerUn, repo.TransFileTriggerUn},
		{senseTriggerPost, repo.TransFileTriggerPostUn}})...)
}

func fileTriggerList(h *header, t triggerTable, priorityTag int, phases []phaseBit) []repo.FileTrigger {
	priorities := h.ints(priorityTag)
	if priorities == nil {
		for range t.scripts {
			priorities = append(priorities, defaultPriority)
		}
	}
	priorities = column(h, priorityTag, priorities, len(t.scripts), false)
	conditions := t.conditions()
	var all []repo.FileTrigger
	for n := range t.scripts {
		var prefixes []string
		for _, d := range conditions[n] {
			prefixes = append(prefixes, d.name)
		}
		if len(prefixes) > 0 {
			all = append(all, repo.FileTrigger{Interpreter: t.interpreter(n), Phase: phaseOf(h, conditions[n], phases),
				Prefixes: sorted(prefixes), Priority: uint32(priorities[n]), Script: t.scripts[n]})
		}
	}
	return all
}
