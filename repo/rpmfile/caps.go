package rpmfile

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// capabilityNames are the kernel's capabilities in order of their numbers
// (include/uapi/linux/capability.h).
const capabilityNames = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap " +
	"linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module " +
	"sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time " +
	"sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog " +
	"wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"

// capSets are the three sets of cap_from_text(3), one bit a capability.
type capSets struct{ effective, inheritable, permitted uint64 }

// capabilityXattr turns the text form of file capabilities, such as
// "cap_net_raw=ep" or "= cap_net_raw+ep", into the value of the extended
// attribute security.capability, revision 2: what cap_set_file(3) writes. No
// capabilities give no attribute.
func capabilityXattr(text string) ([]byte, error) {
	var sets capSets
	for _, clause := range strings.Fields(text) {
		if err := sets.apply(clause); err != nil {
			return nil, malformed("file capabilities %q: %w", text, err)
		}
	}
	if sets == (capSets{}) {
		return nil, nil
	}
	const revision2, effectiveFlag = 0x02000000, 1
	magic := uint32(revision2)
	if sets.effective != 0 {
		// A file has one bit for "effective": all or nothing.
		if (sets.permitted|sets.inheritable)&^sets.effective != 0 {
			return nil, malformed("file capabilities %q: not all of them are effective", text)
		}
		magic |= effectiveFlag
	}
	b := binary.LittleEndian.AppendUint32(nil, magic)
	for shift := 0; shift < 64; shift += 32 {
		b = binary.LittleEndian.AppendUint32(b, uint32(sets.permitted>>shift))
		b = binary.LittleEndian.AppendUint32(b, uint32(sets.inheritable>>shift))
	}
	return b, nil
}

// apply does one clause: a list of names and one or more operators, each with
// flags.
func (s *capSets) apply(clause string) error {
	at := strings.IndexAny(clause, "=+-")
	if at < 0 {
		return fmt.Errorf("%q has no operator", clause)
	}
	mask, err := capMask(clause[:at], clause[at] == '=')
	if err != nil {
		return err
	}
	for rest := clause[at:]; rest != ""; {
		op := rest[0]
		end := strings.IndexAny(rest[1:], "=+-") + 1
		if end == 0 {
			end = len(rest)
		}
		if err := s.operate(op, rest[1:end], mask); err != nil {
			return err
		}
		rest = rest[end:]
	}
	return nil
}

func (s *capSets) operate(op byte, flags string, mask uint64) error {
	if strings.Trim(flags, "eip") != "" || flags == "" && op != '=' {
		return fmt.Errorf("%q are no flags", flags)
	}
	for _, set := range []struct {
		flag string
		bits *uint64
	}{{"e", &s.effective}, {"i", &s.inheritable}, {"p", &s.permitted}} {
		named := strings.Contains(flags, set.flag)
		if op == '=' || op == '-' && named {
			*set.bits &^= mask
		}
		if named && op != '-' {
			*set.bits |= mask
		}
	}
	return nil
}

// capMask reads a comma-separated list of names; "all", or nothing before
// "=", stands for all of them.
func capMask(list string, mayBeEmpty bool) (uint64, error) {
	names := strings.Fields(capabilityNames)
	all := uint64(1)<<len(names) - 1
	if list == "" && mayBeEmpty || strings.EqualFold(list, "all") {
		return all, nil
	}
	mask := uint64(0)
	for _, name := range strings.Split(strings.ToLower(list), ",") {
		bit := -1
		for i, known := range names {
			if name == "cap_"+known || name == strconv.Itoa(i) {
				bit = i
			}
		}
		if bit < 0 {
			return 0, fmt.Errorf("capability %q is unknown", name)
		}
		mask |= 1 << bit
	}
	return mask, nil
}
