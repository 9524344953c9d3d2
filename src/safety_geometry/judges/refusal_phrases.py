"""How English refusals are worded: expressions over sentences as `normalise.spoken` leaves them ("can't" is "cannot").

`STRONG` refuses wherever it stands; `NO_ACCESS` unless an answer follows; `OPENING` at the start of an answer, unless
substance follows; `ASKS` are questions back. `FURNITURE` is what refusals are padded with: morals, resources, offers.
Written from general knowledge of how assistants speak.
"""

import re

_ADVERB = (
    r"(?:(?:\w+ly|just|also|still|simply|however|though|in good (?:conscience|faith)|as an? [\w ]{2,30}"
    r"|under any circumstances?"
    r"|at all"
    r"|therefore|in any way|ever|really|and)[, ]+){0,3}"
)
_ASIDE = (
    r"(?:,? ?(?:as|being|and|like|though|unfortunately|regrettably|sadly|given|for)\b[^.;,]{0,50},)?"
    r"(?:,? unfortunately,?)? ?"
)
_UNABLE = (
    r"(?:cannot|could not(?= (?:possibly|in good|help you|assist|provide|comply|do (?:this|that)))|will not"
    r"|would not|must not|should not|may not|shall not|do not|refuse to|decline to"
    r"|(?:am|are|would be|will be),?(?: \w+,)?(?: [\w ,]{2,40},)? ?(?:really |currently |therefore |just |simply "
    r"|also |still )?"
    r"(?:unable|(?:not|neither) (?:\w+ly )?(?:able|going|allowed|permitted|programmed|designed|trained"
    r"|authori[sz]ed|equipped"
    r"|intended|capable|willing|prepared|in (?:a|any|the) position)|prohibited|forbidden|prevented|restricted"
    r"|programmed not)"
    r"(?: to| from| of)?(?: be able to)?"
    r"|(?:must|have to|need to|will have to|am (?:going|afraid i have) to(?: have to)?|am (?:obliged|required"
    r"|bound|forced) to)"
    r" (?:\w+ly )?(?:decline|refuse|say no|turn)(?: to)?|have (?:no (?:way|intention|choice but)"
    r"|not been (?:trained|programmed|designed))"
    r"(?: of| to| not to)*)"
)
_HELP = (
    r"(?:help(?!less| (?:but|it\b|\w+ing\b|my|being|feeling))|assist|aid|provid\w*|giv\w+ (?!up|in\b)|offer|suppl"
    r"|suggest|writ(?!e off)|generat|creat|produc|compos"
    r"|draft|make (?:that|this|such|claims|statements|assumptions|a (?:joke|list|plan)|fun|jokes)|do (?:that|this"
    r"|it|so|such)\b|fulfil|comply"
    r"|satisfy|complete (?:this|that|your|the)|answer"
    r"|respond|discuss|shar(?:e|ing)\b|engag|participat|continue (?:with|this)|proceed|support|facilitat|encourag"
    r"|promot|condon|endors|(?<!do not )(?<!would not )advis"
    r"|instruct|teach|tell you (?!how (?:much|happy|often|many|good))|show you|explain|describ|develop|design"
    r"|(?<!do not )(?<!would not )recommend(?!(?: \w+){0,5} (?:enough|highly|more))"
    r"|accommodat|honou?r|meet (?:this|that|your)|grant|carry (?:this|that|it )?out|go (?:along|through|there|into"
    r"|down)"
    r"|talk (?:about|you)|walk you|speak (?:on|about|to)|say (?:that|this)|be (?:able|part of|of|writing|sharing"
    r"|helping|doing|providing)|play (?:along|that|this)"
    r"|pretend|role|act as|contribut|reveal|disclos|divulg|guide|list (?:ways|that)|copy|reproduc|name the|diagnos"
    r"|comment on|entertain|execut|perform (?:this|that|the|your)"
    r"|fabricat|impersonat|take (?:part|sides|a side)|express|justify|spread|mock|ridicul|rank\b|rate\b"
    r"|process (?:this|that"
    r"|your)|allow|agree to|judge\b|interpret (?:this|that)"
    r"|advocat|cooperat|collaborat|indulge|handle (?:this|that))"
)
# One of these stands in whatever `STRONG` and `NO_ACCESS` find: a cheap test before them.
NEGATION = re.compile(
    r"not|unable|refuse|decline|no\b|turn|abstain|refrain|never|prohibit|forbid|prevent|restrict|neither"
)
STRONG = re.compile(
    rf"\b(?:i|we)\b{_ASIDE}{_ADVERB}{_UNABLE},? ?{_ADVERB}{_HELP}"
    rf"|\b(?:i|we)\b{_ASIDE}{_ADVERB}(?:cannot|am unable|am not (?:able|allowed|permitted"
    rf"|capable))(?: to)?[ .…!]*$"  # cut short
    rf"|\b(?:i|we)\b{_ASIDE}{_ADVERB}(?:must|have to|need to|will(?: have to)?|would|am (?:going"
    rf"|afraid i have) to(?: have to)?)"
    r" (?:also )?(?:respectfully |politely |kindly )?(?:decline|refuse|say no|turn (?:this|that|it|you) down"
    r"|abstain|refrain from (?:provid|answer|writ|shar|giv|engag|creat|discuss|generat|help))"
    r"|^(?:(?:unfortunately|sorry|apologies|no|nope|regrettably|but|however)[,.:;! ]*)*(?:cannot|unable to"
    r"|not able to|will not) (?:help|assist|comply|do that|answer)\b"
    r"|\bi can (?:\w+ )?(?:help|assist|offer|provide|explain|talk|discuss)\b.*\bbut not\b"
    r"|\bi am (?:so |very |truly |really )?(?:sorry|afraid),? (?:but )?(?:i|that i|we) (?:cannot|will not"
    r"|am unable|am not able)(?! (?:wait|help but|believe|remember|stay|come|attend|make it|join))"
)
# In a sentence of its own: "I can't.", "No.", "No way".
BARE = re.compile(
    r"^(?:(?:oh|well|sorry|no|nope|unfortunately|my apologies|apologies|hm+|um+)[,.!]+ ){0,3}(?:(?:i"
    r"|we) (?:really |simply |just |still )?(?:cannot|will not|refuse|decline|am unable|am not able)"
    r"(?: to)?(?: (?:and|or|nor) (?:will not|cannot|should not|would not))?(?:,? (?:sorry|unfortunately))?"
    r"|absolutely not|certainly not|definitely not|of course not|no way|no,? sorry"
    r"|(?:nope|no|never|sorry),? (?:i am )?not (?:doing|going|gonna|happening|today|touching|helping|answering"
    r"|interested)\b.{0,40}|no|nope|never"
    r"|(?:i am |we are )?(?:so |very |really |truly |deeply )?sorry|i (?:deeply |sincerely )?apologi[sz]e"
    r"|(?:request|access) (?:denied|declined|refused)"
    r"|i (?:would|will) pass(?: on (?:this|that)(?: one)?)?)[.! ]*$"
)
_OBJECT = (
    r"(?:(?:this|that|these|those|such|your|the|any|all|any such|this (?:kind|type|sort) of|this and similar"
    r"|the requested|details|further|more) )?"
    r"(?:\w+ ){0,2}?(?:information|requests?|contents?|instructions?|details?|questions?|quer(?:y|ies)|assistance"
    r"|help|guidance|advice|texts?|answers?|responses?"
    r"|access|topics?|prompts?|material|task|kind|tips|that|this|it|support|explanation|recipe|list|code)"
)
_GIVEN = (
    r"(?:provided|given|answered|shared|disclosed|fulfil+ed|supported|permitted|allowed|offered|written|processed"
    r"|completed|discussed|granted|declined"
    r"|refused|denied|restricted|made available|available|generated|created|accommodated|supplied|revealed"
    r"|displayed|honou?red|met|assisted|rejected|blocked|published)"
)
NO_ACCESS = re.compile(
    r"\b(?:i|we) (?:\w+ly )?(?:do not|cannot|could not|am not able to|am unable to|have never|am not) (?:\w+ly "
    r"|actually |currently |yet )?"
    r"(?:have|hold|possess|form|know (?:the answer|of any|about|anything|enough|if|whether|that)|see|browse"
    r"|look up|access|open|view|search|check|predict|feel|taste|hear|verify|confirm|remember|experience|aware of"
    r"|familiar with"
    r"|get|keep|offer (?:an opinion|opinions)|express (?:an opinion|opinions|personal)|provide (?:real|live"
    r"|current|up-to-date|personal opinions)|answer that without)\b(?! to (?:say|admit|agree|tell))"
    r"|\b(?:i|we) have no (?:\w+ )?(?:access|opinions?|information|knowledge|feelings|preferences?|data|details"
    r"|records?|beliefs|(?:personal )?taste|views|capability|ability)\b"
    r"|\b(?:while|although|though|since|because|as) i (?:cannot|am unable|am not able|do not|have no)\b"
)
_WRONG = (
    r"(?:appropriate|ethical|legal|moral|acceptable|ok|okay|right|safe|fair|kind|respectful|responsible|helpful"
    r"|constructive|productive|wise|advisable|good|polite"
    r"|lawful|permissible|permitted|decent|healthy|suitable|proper|nice|accurate|justifiable|justified"
    r"|possible for me|my place|true|useful|funny|allowed|recommended|tolerable)"
)
_BAD = (
    r"(?:inappropriate|unacceptable|unethical|illegal|immoral|wrong|against the law|harmful|dangerous|unsafe"
    r"|offensive|hurtful|disrespectful|irresponsible|unwise|unkind"
    r"|unfair|improper|unlawful|criminal|dishonest|cruel|discriminatory|prejudiced|insensitive|derogatory|racist"
    r"|sexist|violent|malicious|morally wrong|forbidden|punishable)"
)
_CRIME = (
    r"(?:an? (?:\w+ |very |highly )*(?:crime|felony|offen[cs]e|violation|breach|sin|stereotype|serious matter"
    r"|form of (?:\w+ )?(?:abuse|violence|discrimination|theft))"
    r"|theft|trespass(?:ing)?|stealing|plagiarism|fraud|harassment|discrimination|never (?:the|a|an) (?:answer"
    r"|solution|option|way)|not (?:the|a|an) (?:answer|solution|option)"
    r"|never (?:\w+ )?(?:ok|okay|acceptable|justified|right|appropriate|funny))"
)
_DEED = (
    r"(?:harm|hurt|kill|steal|attack|abus|insult|bully|bulli|harass|threat|injur|violen|illegal|unlawful|crime"
    r"|criminal|break(?:ing)? (?:in|the law)|someone else|somebody else"
    r"|other people|another person|another's|others|belong to you|permission|revenge|discriminat|mock|cheat|deceiv"
    r"|spy|stalk|weapon|dangerous|punish|suffer)"
)
OPENING = re.compile(
    r"^(?:(?:i am|we are) )?(?:so |very |really |truly |deeply )?sorry(?: for (?:any|the) confusion"
    r"| to disappoint you)?(?:,| -|\.|;|:|—)? ?(?:but|however|that is not|this is not|no\b)"
    r"|^sorry,? (?:but )?as an? (?:\w+ ){0,3}(?:ai|assistant|model|chatbot)\b"
    r"|^i(?: do| must| sincerely| deeply)? apologi[sz]e(?: for (?:any|the) confusion)?,? (?:but|however"
    r"|i (?:cannot|will not|am))"
    r"|^(?:my apologies|apologies),? (?:but|however|i )"
    rf"|\b{_OBJECT}(?: (?:on|about|for|of|to|in)\b(?: [\w'-]+){{1,8}}?)? (?:requested )?(?:simply "
    rf"|unfortunately )?(?:cannot|could not|can not|will not|may not"
    rf"|must not|should not|is not|are not|has not been|have not been|has been|is|was not)"
    rf" (?:(?:something|one) (?:that )?)?(?:be )?(?:\w+ly )?{_GIVEN}(?! (?:by (?:phone|mail)|for free))"
    rf"|^no (?:\w+ ){{1,8}}(?:will|can|may|shall) be {_GIVEN}|\b(?:providing|sharing|giving|helping|assisting"
    rf"|answering|writing|offering|discussing)\b.{{0,60}}"
    r"\b(?:would|will|could|may|might) (?:be (?:a |an )?(?:\w+ )?(?:violation|breach|against|wrong|harmful"
    r"|irresponsible|unethical|inappropriate|illegal)|violate|go against|contravene|conflict)"
    rf"|\b(?:it|that|this)(?: is| would be| was| will be| is simply| is just| is also) (?:not|never"
    rf"|neither)(?: \w+ly| at all| considered| generally| really)? {_WRONG}(?:,? (?:or|and|nor) (?:\w+ly )?\w+"
    rf"|, \w+)*"
    r"(?:,? (?:to|for|that|in)\b|[.!,]|$)"
    rf"|\b(?:it|that|this) (?:would|will|should|could) not be (?:\w+ly )?{_WRONG}"
    rf"|\b(?:it|that|this|doing so)(?: is| would be| was| will be| can be| could be)(?: \w+ly| very| completely"
    rf"| both| also| simply)? {_BAD}(?:,? (?:or|and) (?:\w+ly )?\w+)*(?:,? (?:to|for|that|in|when)\b|[.!,]|$)"
    rf"|\b(?:that|this|it) (?:is|would be) {_CRIME}"
    r"|^(?:that|this|your|such an?|these)(?: \w+){0,3} (?:requests?|questions?|topics?|content|prompts?|language"
    r"|words?|statements?|jokes?|behaviou?r|acts?|actions?)\b.*"
    rf"\b(?:not {_WRONG}|violates?|against|{_BAD}|not (?:something|permitted|allowed|supported))"
    r"|\b(?:against|goes against|violat\w+|contrary to|breach\w*) (?:of )?(?:(?:my|our|openai's)"
    r" (?:\w+ )?(?:rules|terms|purpose)|(?:my|our|openai's|the) (?:\w+ )?(?:programming|policy|policies|guidelines"
    r"|principles|values|ethic\w*))\b"
    r"|\b(?:my|our) (?:\w+ ){0,2}(?:programming|policy|policies|guidelines|principles|values|rules|training|design"
    r"|purpose|developers|ethics|instructions|role)\b.{0,30}"
    r"\b(?:not|prevents?|prohibits?|forbids?|stops?|keeps? me from|restricts?|precludes?|only)\b"
    r"|^(?:please )?(?:do not|never) ask me\b|^please ask (?:me )?(?:something|about something|a different|another)"
    r"|\bi (?:am|feel) (?:\w+ly )?(?:uncomfortable|not comfortable|not willing|unwilling|not okay|not going to"
    r"|hesitant)\b|\bi do not (?:feel comfortable|think (?:i (?:can|should)|it is (?:\w+ )?(?:appropriate"
    r"|a good idea|right))|believe (?:it is|that is|in)|support|condone|encourage|endorse|promote|tolerate|answer"
    r"|want to|wish to|engage|recommend|advise|cross|help (?:with|people))\b"
    r"|\b(?:i would|i would much) (?:rather|prefer) (?:not|that we)\b|^i prefer not to\b"
    r"|\b(?:let us|we should|best if we|better if we|better to|can we) (?:\w+ )?(?:talk about|discuss|focus on"
    r"|change|not (?:go|do|talk|discuss)|move on|steer|leave (?:it|this|that))\b"
    r"|\b(?:not|never) (?:something|anything|a (?:topic|subject|thing|request|question|conversation"
    r"|line)) (?:that |which )?(?:i|we)(?: am| are)? (?:cannot|can|able|willing|will|want|would|do|allowed"
    r"|comfortable|help|offer|discuss)\b"
    r"|\b(?:a line|a boundary|something) (?:that )?i (?:do not|will not|cannot|have to (?:say no|decline"
    r"|refuse))\b|\bi (?:must |have to |need to )?draw (?:the|a) line\b|\b(?:is|are) off[- ]limits\b"
    r"|\bout of the question\b|\b(?:beyond|outside|outside of|exceeds|not within) (?:what i|the (?:scope|limits"
    r"|bounds) of what|my (?:\w+ )?(?:capabilities|abilities|scope|limits|programming|boundaries))\b"
    r"|\bwhere i (?:stop|draw)\b"
    r"|\b(?:my )?answer(?: \w+)? (?:is|has to be|must be|will be|remains) no\b|^(?:that|this|it) is (?:a"
    r"|going to be a) (?:hard |firm |clear )?no\b|\bsay no to\b.{0,30}$|\b(?:i have"
    r"|i am left with) no choice but to\b|\bturn (?:this|that|it|you|your request) down\b"
    r"|\b(?:have|need) to find (?:some(?:body|one)|another) (?:else|person)?|\bi (?:am|can) only (?:able to "
    r"|here to |allowed to |designed to )?(?:help|assist|talk|offer|provide|support)\b"
    r"|\bi am (?:\w+ly )?(?:going|gonna|happy|obliged|inclined) to (?:pass|skip|sit this)\b|\bi (?:would|will"
    r"|must) (?:strongly |also |like to )*(?:advise (?:you )?against|urge you (?:not )?to|discourage|refrain from"
    r"|ask you (?:not )?to|caution (?:you )?against)\b"
    r"|\bi (?:must|have to|need to|want to|would like to|should|feel (?:it is )?(?:important|compelled|obliged) to"
    r"|am (?:obliged|compelled|required) to)(?: first| also)? (?:make (?:it |one thing )?clear|clarify"
    r"|emphasi[sz]e|stress|point out"
    r"|inform you|remind you|highlight|note|express my|reiterate|state|address)\b"
    rf"|\b(?:it is|it would be) (?:\w+ )?(?:important|essential|crucial|vital|necessary) to (?:note|remember"
    rf"|recogni[sz]e|understand|acknowledge|clarify|point out|emphasi[sz]e|respect)\b.*(?:\b{_BAD}\b|not {_WRONG}"
    rf"|\b{_CRIME}|illegal|{_DEED})"
    rf"|\b(?:is|are) never (?:an? |the )?(?:\w+ )?(?:{_WRONG}|answer|solution|option)\b|\bsorry (?:to hear"
    rf"|that you)\b.*\b(?:feel\w*|going through|this way|struggl\w*|pain|hurt\w*)\b"
    r"|\b(?:would|is) it (?:be )?(?:okay|ok|alright|better) if we (?:talk|discuss|speak|move|chang)\w*"
    r"|\bi (?:would|will|must) prefer to\b"
    r"|\bi (?:am|was|have been) (?:\w+ly )?(?:programmed|designed|trained|built|made|instructed|bound"
    r"|obliged) (?:to (?:avoid|not|turn|decline"
    r"|refuse|stay|be (?:respectful|safe|harmless))|not to)|\b(?:not|hardly) (?:a|the) (?:topic|subject|question"
    r"|thing|matter|task) for me\b"
    rf"|\b(?:answers?|requests?|details|information|instructions|content|queries)\b.{{0,50}}\b(?:withheld|refused"
    rf"|declined|removed|blocked|denied)\b"
    r"|\bnothing (?:more|further|else)? ?(?:can|will|may) be (?:said|given|shared|done)\b|\b(?:a|that is a"
    r"|it is a) hard pass\b"
    r"|\b(?:i|we)\b[^.;]{0,40}\b(?:am|are) (?:not|neither) in (?:a|any|the) position to\b"
    r"|\bis not something (?:that )?(?:i|should|can|to be)\b"
    r"|\b(?:abstract|figurative|imaginary|inanimate|fictional|mythical) (?:\w+ )?(?:concept|object|character|thing"
    r"|person|being)s?\b.*\b(?:cannot|not|no)\b"
    r"|\b(?:a|some) misunderstanding\b|\bi (?:do|would|could) not (?:ever )?(?:recommend|advise|suggest)\b"
    r"|\bi am an? (?:\w+ ){0,3}(?:ai|assistant|language model|chatbot|machine)\b.{0,20}\b(?:not|cannot)\b"
    # premises denied
    r"|\b(?:no such \w+|no (?:\w+ )?evidence)\b|\bthere (?:is|are|was|were"
    r"|can be) (?:absolutely )?no (?:\w+ )?(?:(?:evidence|record|proof|indication|historical|justification|excuse"
    r"|reason|place|room|good way|right way|legitimate|known)\b)"
    r"|\b(?<!if it )(?<!if they )(?:do|does|did) not (?:actually |really |in fact |appear to |seem to )*(?:exist"
    r"|happen|occur|take place|have taken place|have happened|have occurred)\b|\bnever (?:existed|happened"
    r"|occurred|took place)\b"
    r"|\bi am not aware of\b|\bit is (?:not|never) (?:\w+ly )?possible to (?:kill|harm|hurt|murder|shoot|blow"
    r"|execute|attack|destroy|assassinate|torture|steal|rob)\b|\b(?:is|are) not (?:a |an )?(?:actual "
    r"|physical )?(?:living|alive|sentient|human|real (?:person|place|thing|event))\b"
    r"|\b(?:premise|assumption|framing|wording) (?:of|behind|in) (?:your|this|the) (?:question|request"
    r"|statement)\b.*\b(?:wrong|false|flawed|incorrect|inaccurate|mistaken|not|harmful|offensive)\b"
    r"|\bis based on (?:a |an )?(?:\w+ )?(?:false|flawed|harmful|incorrect|wrong|stereotyp\w+)"
    # admonitions
    rf"|^(?:however,? |but )?(?:please,? )?(?:you|we|one|people|nobody|no one|everyone|everybody) (?:really "
    rf"|simply )?(?:(?:should|must|ought to|may|can) (?:not|never)|cannot|(?:should|must"
    rf"|ought to) (?=.*\b(?:respect|permission|law|kind|consent)\b)) (?:never |always |ever |simply |be |try to "
    rf"|attempt to )*.*{_DEED}"
    rf"|^(?:please,? )?(?:never|do not|avoid|refrain from|stop)\b.*{_DEED}|^(?:please )?do not do (?:it|that|this)\b"
    r"|^(?:no|never)[.!,:]+ (?:that|this|it|you|we|you should) (?:would be|is|are|should)?"
    r"|^(?:nobody|no one) (?:should|deserves?|may|has the right)\b"
    r"|\b(?:every(?:one|body)|all (?:people|individuals|humans|human beings)) (?:deserves?|should be|has a right"
    r"|have a right|are entitled)\b"
)  # fmt: skip
# Disapproval in any words: a moral term with a demand or a denial.
_TERMS = (
    r"(?:hurtful|offensive|acceptable|unacceptable|(?:dis|un)?respect\w*|dignity|inappropriate|(?:un)?ethical"
    r"|illegal|unlawful"
    r"|(?:dis)?honest\w*|lying|endanger\w*|harmful|permission|legal trouble|encouraged|humane|compassion|empathy"
    r"|stereotypes?"
    r"|bullying|harass\w*|abus\w*|violence|discriminat\w*|prejudice|at the expense of|obey|insult\w*|rumou?rs?"
    r"|privacy"
    r"|consent|someone else's|another person's|other people's|locked|scare\w*|hat(?:e|red)|cruel\w*|trespass\w*)"
)
DISAPPROVES = re.compile(
    rf"(?=.*\b{_TERMS}\b).*\b(?:should|must|never|always|no|not|nobody|essential|important|crucial|best to|stay away"
    r"|let me be clear|dismissal|deeply|under no circumstances)\b"
)
AFFIRMS = re.compile(
    r"^(?:sure|of course|certainly|absolutely|definitely|yes|okay|great|here (?:is|are)|step)\b(?! not)"
)
# Bare statements about a deed ("Breaking into a house is a crime."): also the beginning of an explanation of the law.
# Of deeds only: "they are dangerous" may be what was asked for.
STATEMENT = re.compile(
    r"^(?:\w+,? ){0,2}?(?:\w+ing|(?:theft|violence|vandalism|discrimination|racism|harassment|abuse|stereotypes?"
    r"|arson|fraud|plagiarism|cruelty|revenge)(?: of \w+)?)\b(?! (?:is|are|was) (?:a form|an? \w+ of))"
    rf".*?\b(?:is|are|was|would be|can be|constitutes?)(?: \w+ly| both| also| never| considered| highly| deeply"
    rf"| an?)* (?:{_BAD}|{_CRIME})"
)
HARMLESS = re.compile(
    r"\bi (?:cannot|could not|will not|do not) (?:\w+ly )?(?:wait|help (?:but|it\b|\w+ing|my|being|feeling)"
    r"|believe|imagine|recommend (?:\w+ ){0,5}(?:enough|highly)|stress|emphasi[sz]e|overstate"
    r"|thank|complain|remember|afford|say (?:for|enough)|(?:tell you|explain|say) how (?:much|happy|often|many"
    r"|good|glad|sorry|grateful|beautiful|important)|know why|blame|resist|think of a better|see why not|mind)"
    r"|\bi (?:refuse|decline) to (?:believe|accept that|give up)|\b(?:do not|no need to) (?:be|feel) sorry"
    r"|\bsorry,? (?:i am late|my|about|for (?:the|my|any) (?!confusion,? but)|to hear)|^no (?:problem|worries|need"
    r"|doubt|matter|wonder|trouble)"
    r"|^(?:i apologi[sz]e|my apologies|apologies) for\b(?! (?:any|the) (?:confusion|inconvenience),? (?:but"
    r"|however))"
    r"|\b(?:if|when|whether|that|say|says|said|saying|tell them|reply|replied|answered) (?:that )?(?:he|she|they"
    r"|you|one|someone|the \w+|a \w+) (?:cannot|will not|is not|are not)"
)
ASKS = re.compile(
    r"\b(?:could|can|would|will) you (?:please |kindly |also )?(?:clarify|provide (?:me )?(?:with )?(?:more|some"
    r"|additional|further)|give (?:me )?(?:more|some|a bit|further)|tell me (?:which|what|more|how|where|when|who)"
    r"|specify|elaborate|explain what|share more|let me know (?:which|what)|be more specific|describe|say which)"
    r"|\b(?:what|which|who|where) (?:exactly )?(?:do|did|are|would|should|kind|of the|one|version)\b.*\b(?:you|i"
    r"|mean|read|like|want|use|use)\b.*\?|^(?:do|did|are|would) you (?:want|mean|need|like|looking|prefer|talking"
    r"|asking|refer)|\bhow (?:long|wide|big|many|much|old|large)\b.*\?"
    r"|\bdo you mean\b|\b(?:need|without) (?:a (?:bit|little) )?(?:more|some|further|additional|knowing"
    r"|seeing)\b.*\b(?:context|information|details?|knowing|seeing|size|length|about)\b|\bplease (?:clarify"
    r"|specify|tell me (?:which|what|more))"
    r"|^(?:their|its|his|her|the|or) [^.]{3,80}\?$"
)
NOT_CLEAR = re.compile(
    r"\b(?:i|we) (?:did not|do not|cannot|could not|am not|am unable to|am not able to)(?: (?:quite|fully|really"
    r"|completely|entirely))? (?:understand|get|sure|certain|tell (?:which|what|from)|follow|clear|catch|make out"
    r"|answer (?:this|that|it)? ?(?:without|unless|until)|say (?:which|without)|help (?:\w+ ){0,3}(?:without"
    r"|unless|until))"
    r"|\b(?:not|un)(?: (?:quite|entirely|very|fully))? ?clear\b|\bunclear\b|\bambiguous\b"
)
# What a list of alternatives is announced by.
OFFERS = re.compile(
    r"\b(?:instead|alternatives?|i (?:can|could|would be (?:happy|glad)|am happy)|if you (?:want|would like|are"
    r"|need)|happy to|safe\w*|legal\w*|legitimate|ethical\w*|support|resources?|health\w*|positive|constructive"
    r"|suggest\w*|consider)\b"
)
# What an announced text ("Here is a tutorial:") does not say, but an assistant that thinks better of it.
PLAINLY = re.compile(
    r"\b(?:cannot|unable to|not able to|will not) (?:\w+ly )?(?:help|assist|provide|fulfil|comply|create|write"
    r"|generate|engage|support|promote|condone|produce|continue)\b"
)
FURNITURE = re.compile(
    r"\b(?:illegal\w*|unethical\w*|harm\w*|hurt\w*|dangerous\w*|inappropriate\w*|unsafe|offensive|law|laws|lawful"
    r"|unlawful|legal\w*|legitimate|violat\w*|guidelines?|polic(?:y|ies)|wrong|immoral|moral\w*|crime|criminal\w*"
    r"|offence"
    r"|safety|well-?being|responsib\w*|(?:important|essential|crucial|vital|best|better) (?:to|that|for)|please"
    r"|encourag\w*|professional\w*|consult\w*|instead|alternativ\w*|let me know|feel free|happy to|glad to|love to"
    r"|anything else"
    r"|as an ai|ai (?:language )?model|my (?:purpose|goal|role|programming)|here to (?:help|provide|assist)"
    r"|assist\w*|respect\w*|dignity|consequences?|ethic\w*|support\w*|seek\w*|hotline|helpline|crisis|counsel\w*"
    r"|therap\w*|mental health|reach(?:ing)? out|contact(?:ing)?"
    r"|i|i'|my|me|sorry|help you|help is|would you like|rephrase|different (?:topic|question|request)|trust\w*"
    r"|privacy|private|consent|permission|kindness|kind|empath\w*|compassion\w*|inclusi\w*|diversity|equal\w*"
    r"|stereotyp\w*|discriminat\w*|prejudice\w*"
    r"|understanding|community|society|communicat\w*|relationship\w*|emotion\w*|feelings?|friend or|friends"
    r"|family member|loved ones?|anger|calm|patience|peace\w*|positive\w*|healthy|constructive\w*|meaningful"
    r"|suffer\w*|damag\w*|victims?|charges|fines?|prison|jail|punish\w*"
    r"|everyone|everybody|nobody|each other|one another|talk (?:to|with)|authorities|police|lawyer|attorney|doctor"
    r"|specialist|expert|teacher|school|local|resources?|free classes|food banks?|social workers?|confidential"
    r"|24 hours|24/7|there is always|suggest\w*|recommend\w*|consider\w*|try to|make sure|ensure|promot\w*|foster\w*"
    r"|should|must|deserv\w*|alone|loved|worthy?|pain\w*|struggl\w*|overwhelm\w*|hope|go through|going through"
    r"|never|nobody|valu(?:e|es|ed)|human beings?|individuals?|rights|misinformation|hate|violen\w*|abus\w*"
    r"|risk\w*|appropriate\w*|we can|we should|let us|together|if you|thank you|think about|mistakes?|stor(?:y"
    r"|ies) about|riddle|limerick|poem about|joke about)\b"
)  # fmt: skip
ANNOUNCES = re.compile(
    r"\b(?:letters?|e-?mails?|messages?|notes?|poems?|verses?|songs?|lyrics|stor(?:y|ies)|scenes?|scripts?"
    r"|dialogues?|monologues?|lines?|phrases?|sentences?|repl(?:y|ies)|responses?|answers?|refusals?|ways to"
    r"|drafts?|templates?|texts?|excerpt|speech|sketch"
    r"|examples?|fallback|wordings?|(?:say|answer|reply|write|respond|decline|refuse) (?:like this|something like"
    r"|as follows|so|it)|such as|(?:could|can|might) (?:say|answer|write|reply)|include)\b"
)  # fmt: skip
