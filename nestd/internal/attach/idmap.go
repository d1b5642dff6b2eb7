package attach

import (
	"strconv"
	"strings"
)

// rootOf returns whom a uid_map or gid_map, as read by the nest, maps the
// guest's 0 to, if it does (user_namespaces(7)).
func rootOf(idMap string) (id uint32, mapped bool) {
	for line := range strings.Lines(idMap) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "0" || fields[2] == "0" {
			continue
		}
		// The highest number stands for nobody whom the nest could name.
		n, err := strconv.ParseUint(fields[1], 10, 32)
		return uint32(n), err == nil && n != 1<<32-1
	}
	return 0, false
}
