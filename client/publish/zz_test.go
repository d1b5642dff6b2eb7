package publish_test
import ("testing";"time";"context";"os";"strings";"stork/fixtures";"os/exec";"encoding/json";"stork/nestd/api")
func TestZZ(t *testing.T){
 var pin api.RepositoryPin
 _ = json.Unmarshal; _ = exec.Command
 p:=realRepository(t,"/tmp/pub-bin/stork-repo"); _=pin
 dir:=t.TempDir()
 s:=time.Now()
 files,err:=fixtures.Bulk{Packages:60000}.WriteTo(dir)
 if err!=nil{t.Fatal(err)}
 t.Log("built", time.Since(s))
 s=time.Now()
 plan,err:=p.Plan(context.Background(),files,nil)
 if err!=nil{t.Fatal(err)}
 t.Log("planned", time.Since(s), plan.Bytes)
 s=time.Now()
 if err:=p.Submit(context.Background(),plan,nil);err!=nil{t.Fatal(err)}
 t.Log("submitted", time.Since(s))
 plan.Close()
 b,_:=os.ReadFile("/proc/self/status")
 for _,l:=range strings.Split(string(b),"\n"){ if strings.HasPrefix(l,"VmHWM"){t.Log(l)}}
 out,_:=exec.Command("sh","-c","for p in /proc/[0-9]*; do if grep -q pub-bin/stork-repo $p/cmdline 2>/dev/null; then grep -H VmHWM $p/status; fi; done").Output(); t.Log(string(out))
 s=time.Now()
 f:=t.TempDir()+"/one.rpm"
 os.WriteFile(f,fixtures.MustRPM(t,fixtures.Spec{Name:"one"}),0o600)
 plan,err=p.Plan(context.Background(),[]string{f},nil)
 if err!=nil{t.Fatal(err)}
 t.Log("one more: planned", time.Since(s))
 if err:=p.Submit(context.Background(),plan,nil);err!=nil{t.Fatal(err)}
 plan.Close()
 t.Log("one more", time.Since(s))
}
