package testbed

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseRate reads a rate as tc(8) writes it, in bits a second, and returns
// bytes a second. The empty string is no limit, 0.
func ParseRate(s string) (uint32, error) {
	if s == "" {
		return 0, nil
	}
	text := strings.ToLower(s)
	for _, unit := range []struct {
		suffix string
		bits   float64
	}{{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}} {
		number, found := strings.CutSuffix(text, unit.suffix)
		if !found {
			continue
		}
		value, err := strconv.ParseFloat(number, 64)
		bytes := value * unit.bits / 8
		if err != nil || math.IsNaN(bytes) || bytes < 1000 || bytes > math.MaxUint32 {
			return 0, fmt.Errorf("cannot use the rate %q: want 8kbit to 34gbit", s)
		}
		return uint32(bytes), nil
	}
	return 0, fmt.Errorf("cannot use the rate %q: want a number and kbit, mbit or gbit", s)
}
