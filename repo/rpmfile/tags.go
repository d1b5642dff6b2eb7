package rpmfile

// Tags of the signature header (rpm's include/rpm/rpmtag.h).
const (
	sigSHA1     = 269
	sigLongSize = 270
	sigSHA256   = 273
	sigSize     = 1000
	sigMD5      = 1004
)

// Tags of the header.
const (
	tagName              = 1000
	tagVersion           = 1001
	tagRelease           = 1002
	tagEpoch             = 1003
	tagSummary           = 1004
	tagDescription       = 1005
	tagBuildTime         = 1006
	tagVendor            = 1011
	tagLicense           = 1014
	tagURL               = 1020
	tagArch              = 1022
	tagPreIn             = 1023
	tagPostIn            = 1024
	tagPreUn             = 1025
	tagPostUn            = 1026
	tagOldFileNames      = 1027
	tagFileSizes         = 1028
	tagFileModes         = 1030
	tagFileRdevs         = 1033
	tagFileMtimes        = 1034
	tagFileDigests       = 1035
	tagFileLinkTos       = 1036
	tagFileFlags         = 1037
	tagFileUser          = 1039
	tagFileGroup         = 1040
	tagSourceRPM         = 1044
	tagProvideName       = 1047
	tagRequireFlags      = 1048
	tagRequireName       = 1049
	tagRequireVersion    = 1050
	tagConflictFlags     = 1053
	tagConflictName      = 1054
	tagConflictVersion   = 1055
	tagTriggerScripts    = 1065
	tagTriggerName       = 1066
	tagTriggerVersion    = 1067
	tagTriggerFlags      = 1068
	tagTriggerIndex      = 1069
	tagVerifyScript      = 1079
	tagPreInProg         = 1085
	tagPostInProg        = 1086
	tagPreUnProg         = 1087
	tagPostUnProg        = 1088
	tagObsoleteName      = 1090
	tagVerifyScriptProg  = 1091
	tagTriggerScriptProg = 1092
	tagFileDevices       = 1095
	tagFileInodes        = 1096
	tagSourcePackage     = 1106
	tagProvideFlags      = 1112
	tagProvideVersion    = 1113
	tagObsoleteFlags     = 1114
	tagObsoleteVersion   = 1115
	tagDirIndexes        = 1116
	tagBaseNames         = 1117
	tagDirNames          = 1118
	tagPayloadFormat     = 1124
	tagPayloadCompressor = 1125
	tagPreTrans          = 1151
	tagPostTrans         = 1152
	tagPreTransProg      = 1153
	tagPostTransProg     = 1154
	tagLongFileSizes     = 5008
	tagFileCaps          = 5010
	tagFileDigestAlgo    = 5011
	tagPreInFlags        = 5020
	tagPostInFlags       = 5021
	tagPreUnFlags        = 5022
	tagPostUnFlags       = 5023
	tagPreTransFlags     = 5024
	tagPostTransFlags    = 5025
	tagVerifyFlags       = 5026
	tagTriggerSFlags     = 5027
	tagRecommendName     = 5046
	tagRecommendVersion  = 5047
	tagRecommendFlags    = 5048
	tagSuggestName       = 5049
	tagSuggestVersion    = 5050
	tagSuggestFlags      = 5051
	tagSupplementName    = 5052
	tagSupplementVersion = 5053
	tagSupplementFlags   = 5054
	tagEnhanceName       = 5055
	tagEnhanceVersion    = 5056
	tagEnhanceFlags      = 5057
	tagPayloadDigest     = 5092
	tagPayloadDigestAlgo = 5093
	tagPreUnTrans        = 5104
	tagPostUnTrans       = 5105
	tagPreUnTransProg    = 5106
	tagPostUnTransProg   = 5107
	tagPreUnTransFlags   = 5108
	tagPostUnTransFlags  = 5109
)

// Tags of file triggers, for files of packages and of whole transactions.
const (
	tagFileTriggerScripts      = 5066
	tagFileTriggerProg         = 5067
	tagFileTriggerSFlags       = 5068
	tagFileTriggerName         = 5069
	tagFileTriggerIndex        = 5070
	tagFileTriggerVersion      = 5071
	tagFileTriggerFlags        = 5072
	tagTransFileTriggerScripts = 5076
	tagTransFileTriggerProg    = 5077
	tagTransFileTriggerSFlags  = 5078
	tagTransFileTriggerName    = 5079
	tagTransFileTriggerIndex   = 5080
	tagTransFileTriggerVer     = 5081
	tagTransFileTriggerFlags   = 5082
	tagFileTriggerPriority     = 5084
	tagTransFileTriggerPrio    = 5085
)

// Bits of dependency flags (rpm's include/rpm/rpmds.h).
const (
	senseLess         = 1 << 1
	senseGreater      = 1 << 2
	senseEqual        = 1 << 3
	sensePostTrans    = 1 << 5
	sensePreReq       = 1 << 6
	sensePreTrans     = 1 << 7
	senseInterp       = 1 << 8
	senseScriptPre    = 1 << 9
	senseScriptPost   = 1 << 10
	senseScriptPreUn  = 1 << 11
	senseScriptPostUn = 1 << 12
	senseScriptVerify = 1 << 13
	senseTriggerIn    = 1 << 16
	senseTriggerUn    = 1 << 17
	senseTriggerPost  = 1 << 18
	senseMissingOK    = 1 << 19
	senseRPMLib       = 1 << 24
	senseTriggerPreIn = 1 << 25
)
