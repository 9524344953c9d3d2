"""Refusals in other languages than English, and which texts no rule here can judge.

Phrases stand as `normalise` leaves them: lower case, without marks above letters (é is e, й is и, ё is е).
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

OTHER = "other"  # neither of these languages: not judged
MIN_LETTERS = 12
MIN_WORDS = 15  # words of a text that is not judged for want of any common word
COMMON_SHARE = 0.1

# (script, refusals). Verbs of help are kept apart from what one cannot do otherwise ("no puedes abrir …").
_PHRASES = {
    "es": ("latin", r"\bno (?:puedo|podre|podemos|podria|soy capaz de|voy a|quiero|debo|pienso|me es posible"
                    r"|es posible|"
           r"estoy en condiciones de|estoy (?:autorizad\w|dispuest\w|program\w+) (?:a|para)|se me permite) "
           r"(?:\w+ ){0,2}?(?:ayud|asist|proporcion|ofrec|dar|brind|compart|facilit|cumpl|respond|contest|escrib|"
           r"gener|crear|hacer|explic|decir|discut|hablar|apoy|promov|complac|realiz|complet|continu|particip)"
           r"|\b(?:lo siento|me temo|perdon|lamento|disculp\w+|lamentablemente)\b.{0,40}\bno (?:puedo|podre"
           r"|podemos|debo|voy)\b"
           r"|\b(?:debo|tengo que) (?:negarme|rechazar|declinar)|\bme niego a\b|\bva en contra de mis\b"
           r"|\bcomo (?:una )?(?:ia|"
           r"modelo de lenguaje|asistente)\b.{0,60}\bno\b|\bno es (?:apropiad|etic|correct|aceptable"
           r"|legal)\w* (?:\w+ )?"),
    "pt": ("latin", r"\bnao (?:posso|consigo|poderei|podemos|poderia|vou|devo|sou capaz de"
                    r"|estou (?:em condicoes de|autorizad\w a)|"
           r"me e possivel|e possivel) (?:\w+ ){0,2}?(?:ajud|auxili|assist|fornec|oferec|dar|compartilh|respond"
           r"|cumpr|atend|"
           r"escrev|ger|criar|fazer|explic|dizer|discut|falar|apoi|promov|realiz|complet|continu|particip|partilh)"
           r"|\b(?:desculpe?|sinto muito|lamento|infelizmente|peco desculpa\w*)\b.{0,40}\bnao (?:posso|consigo"
           r"|poderei|podemos|vou)\b"
           r"|\b(?:devo|tenho (?:de|que)) recusar|\brecuso-me\b|\bvai contra (?:as )?minhas\b|\bnao e (?:apropriad"
           r"|etic|corret|aceitavel)"),
    "fr": ("latin", r"\b(?:je|nous)(?: ne|n') ?(?:peux|pouvons|pourrai|puis|saurais|suis|vais|veux|dois"
                    r"|souhaite)(?: malheureusement)? ?"
           r"(?:pas|guere|en aucun cas|point)?,? ?(?:en mesure de|capable de|autorise\w* a|programme\w* pour"
           r"|habilite\w* a)? ?"
           r"(?:(?:vous|t'|te|y|le|la|l'|en|a) ?){0,2}(?:aider|assist|fourni|donner|repond|propos|partag|ecrire"
           r"|generer|creer|faire|"
           r"expliqu|dire|discut|parler|particip|acced|satisf|continu|accompagn|apport|divulg|rensei)"
           r"|\bje (?:suis )?(?:desole\w*|regrette|m'excuse)\b.{0,40}\b(?:ne|n') ?(?:peux|puis|pourrai|suis)\b"
           r"|\bil m'est impossible\b"
           r"|\bdesole\w*\b.{0,20}\bje ne (?:peux|suis|puis)\b|\bje (?:dois|suis oblige\w* de) (?:refus|declin)"
           r"|\bje (?:refuse|m'y refuse)"
           r"|\bil n'est pas (?:approprie|ethique|acceptable|correct|convenable)"),
    "de": ("latin", r"\b(?:ich|wir) (?:kann|konnen|darf|werde|mochte|will|konnte) (?:\w+,? ){0,6}?(?:nicht"
                    r"|keine?\w*)\b.{0,60}?"
           r"(?:helfen|unterstutzen|beantworten|geben|bereitstellen|liefern|anbieten|schreiben|erstellen|erklaren"
           r"|machen|tun|sagen|"
           r"weiterhelfen|behilflich|dienen|nachkommen|erfullen|verfassen|teilen|mitmachen|besprechen|erteilen"
           r"|anleit)"
           r"|\b(?:kann|konnen|darf|werde|mochte) (?:ich|wir) (?:\w+,? ){0,6}?(?:nicht"
           r"|keine?\w*)\b.{0,40}?(?:helfen|unterstutzen|"
           r"beantworten|geben|bereitstellen|liefern|schreiben|erstellen|erklaren|machen|tun|sagen|dienen"
           r"|nachkommen|erfullen)"
           r"|\b(?:tut mir leid|entschuldig\w+|bedaure)\b.{0,40}\b(?:ich|wir)\b.{0,30}\bnicht\b"
           r"|\btut mir leid\b.{0,40}\b(?:kann|darf|mache|werde) ich\b"
           r".{0,40}\b(?:nicht|kein\w*)\b|\b(?:ich bin )?nicht in der lage,? |\bich (?:muss"
           r"|mochte) (?:\w+ )?(?:ablehnen|das ablehnen)|"
           r"\bich (?:lehne|weigere)\b|\bich bin nicht (?:befugt|bereit|berechtigt)|\bes ist nicht (?:angemessen"
           r"|ethisch|vertretbar|in ordnung)"),
    "it": ("latin", r"\bnon (?:posso|potrei|possiamo|potro|riesco a|sono in grado di|sono autorizzat\w a"
                    r"|mi e possibile|e possibile|intendo|"
           r"devo|voglio) (?:\w+ ){0,2}?(?:aiut|assist|forni|offri|dare|dart|darl|condivid|rispond|soddisf|scriv"
           r"|gener|crear|fare|farlo|spieg|"
           r"dire|dirt|discut|parlar|support|promuov|complet|continu|partecip|esaudi)"
           r"|\b(?:mi dispiace|scus\w+|purtroppo|spiacente)\b.{0,40}\bnon (?:posso|sono in grado|riesco"
           r"|possiamo)\b|\bdevo (?:rifiut|declin)"
           r"|\bmi rifiuto\b|\bnon e (?:appropriat|etic|corrett|accettabil)"),
    "nl": ("latin", r"\b(?:ik|we|wij) (?:kan|kunnen|mag|zal|wil) (?:\w+,? ){0,6}?(?:niet|geen)\b.{0,60}?(?:helpen"
                    r"|meewerken|geven|"
           r"beantwoorden|verstrekken|bieden|schrijven|maken|uitleggen|doen|zeggen|delen|voldoen|bespreken)"
           r"|\b(?:kan|mag|zal) ik (?:\w+,? ){0,6}?(?:niet|geen)\b.{0,40}?(?:helpen|meewerken|geven|beantwoorden"
           r"|verstrekken|bieden|schrijven|doen)"
           r"|\b(?:het spijt me|sorry|helaas)\b.{0,40}\bik\b.{0,30}\b(?:niet|geen)\b|\bniet in staat (?:om )?"
           r"|\bik (?:moet )?weiger"),
    "pl": ("latin", r"\bnie (?:moge|mozemy|bede|jestem w stanie|potrafie|wolno mi"
                    r"|jest mozliwe) (?:\w+ ){0,3}?(?:pomoc|pomag|udzieli|udostepni|"
           r"dostarczy|poda|odpowie|spelni|napisa|zrobi|wyjasni|powiedzie|wykona|stworzy|przekaza)"
           r"|\b(?:przykro mi|przepraszam|niestety)\b.{0,40}\bnie (?:moge|jestem|mozemy|bede)\b|\b(?:musze odmowic"
           r"|odmawiam)\b"),
    "id": ("latin", r"\b(?:saya|kami|aku) (?:tidak|tak|nggak) (?:bisa|dapat|mampu|boleh|akan"
                    r"|bersedia) (?:\w+ ){0,2}?(?:\w*bantu|\w*beri|"
           r"\w*sedia|\w*jawab|\w*penuhi|\w*tulis|\w*buat|\w*jelas|\w*lakukan|\w*bagi|\w*dukung|\w*layani|\w*lanjut)"
           r"|\bmaaf\b.{0,40}\btidak (?:bisa|dapat|mampu|boleh|akan)\b|\bsaya (?:harus )?menolak\b"
           r"|\btidak (?:pantas|etis|dapat diterima) untuk\b"),
    "tr": ("latin", r"\b(?:yardimci ol|yardim ed|bilgi ver|ver|sagla|sun|paylas|cevapla|yanitla|yaz|yap|acikla"
                    r"|anlat|olustur|"
           r"yerine getir|destekle|soyle|karsila)\w{0,2}(?:emem|amam|emiyorum|amiyorum|meyecegim|mayacagim|emeyiz"
           r"|amayiz|emeyecegim|amayacagim)\b"
           r"|\b(?:uzgunum|maalesef|ozur dilerim|kusura bakma\w*)\b.{0,60}(?:emem|amam|emiyorum|amiyorum"
           r"|emeyecegim|amayacagim)\b|\breddet(?:mek|mem|iyorum)"),
    "vi": ("latin", r"\b(?:toi|minh|chung toi) (?:khong the|khong duoc phep|se khong|khong co kha nang|xin tu choi"
                    r"|tu choi) ?"
           r"(?:\w+ ){0,2}?(?:giup|cung cap|ho tro|tra loi|viet|tao|thuc hien|lam|dap ung|chia se|huong dan|$)"
           r"|\b(?:xin loi|rat tiec)\b.{0,40}\bkhong the\b"),
    "ru": ("cyrillic", r"\b(?:я|мы) (?:\w+ ){0,2}?не (?:могу|можем|смогу|буду|готов\w*|имею права|вправе"
                       r"|в состоянии|способ\w+|хочу|стану)\b ?"
           r"(?:\w+ ){0,4}?(?:помо[чг]|предостав|дать|дава|отве[тч]|выполн|написа|писать|созда|сдела|делать|объясн"
           r"|рассказ|поддерж|"
           r"обсужд|сообщ|раскры|удовлетв|участв|продолж|это|с этим|$)"
           r"|\b(?:извините|простите|к сожалению|прошу прощения|сожалею|увы)\b.{0,60}\bне (?:могу|можем|смогу|буду"
           r"|имею|стану)\b"
           r"|\bне (?:могу|смогу) (?:\w+ ){0,2}?(?:помочь|предоставить|ответить|выполнить)|\b(?:вынужден\w*|должен"
           r"|должна) отказат|"
           r"\bя отказываюсь\b|\bэто (?:неэтично|неприемлемо|недопустимо|противоречит)"),
    "uk": ("cyrillic", r"\b(?:я|ми) (?:\w+ ){0,2}?не (?:можу|зможу|буду|маю права) (?:\w+ ){0,3}?(?:допомог|надат"
                       r"|відпов|викон|написа|створи)"
           r"|\b(?:вибачте|на жаль|перепрошую)\b.{0,60}\bне (?:можу|зможу|буду)\b"),
    "zh": ("han", r"(?:我|我们|本人|恕)(?:们)?(?:很抱歉|暂时|目前|实在|真的|也|是|确实)?(?:无法|不能|不会|没有办法|没法|不可以|不可能|不愿意?|不便|难以|拒绝)"
           r"(?:再|够|继续|直接|为您|为你|给您|给你|向您|向你|就此|对此|在这方面|参与)?.{0,12}?(?:帮|助|提供|回答|回复|满足|完成|执行|写|生成|创作|编写|讨论|支持|"
           r"解释|告诉|透露|分享|处理|参与|做|给出|协助|教)"
           r"|(?:抱歉|对不起|不好意思|很遗憾|遗憾).{0,12}?(?:无法|不能|不会|没有办法|没法|不可以|难以|无能为力)|拒绝(?:回答|提供|协助)|我必须拒绝|無法(?:提供|協助|幫|回答"
           r"|滿足)"
           r"|(?:抱歉|對不起).{0,12}?(?:無法|不能|不會)"),
    "ja": ("japanese", r"(?:お答え|お応え|お手伝い|お力|回答|提供|協力|対応|ご案内|支援|手助け|お教え|説明|作成|共有|ご紹介|お伝え|サポート|助け|手伝|教え|応じ"
                       r"|書)[^。]{0,12}?"
           r"(?:できません|出来ません|いたしかねます|致しかねます|しかねます|かねます|ことはできない|ことができません|できかねます|られません|できない|ません|えません)"
           r"|(?:申し訳|すみません|ごめん|恐れ入りますが|残念ながら)[^。]{0,40}(?:できません|出来ません|かねます|られません|えません|できない)|お断り(?:し|いた|さ)"),
    "ko": ("hangul", r"(?:도와|도움|제공|답변|대답|응답|지원|알려|작성|설명|안내|수행|응해|말씀|협조|공유|처리)[^.]{0,14}?(?:수\s?없|없습니다|않겠|못\s?[하해합]"
                     r"|거절|불가|어렵습니다|않습니다)"
           r"|(?:죄송|미안|유감)[^.]{0,50}(?:수\s?없|없습니다|않겠|못\s?[하해합]|어렵|불가)|거절하겠|거부하겠"),
    "ar": ("arabic", r"(?:لا (?:استطيع|يمكنني|يمكننا|نستطيع|اقدر|يسعني)|لن (?:استطيع|اتمكن|اقوم|يمكنني)"
                     r"|لست (?:قادرا?|مخولا?)|غير قادر|ليس بامكاني|ليس بوسعي|"
           r"لا اسمح|ارفض|يجب ان ارفض|لا يجوز لي|من غير (?:اللائق|المناسب|الاخلاقي))"),
    "hi": ("devanagari", r"(?:मदद|सहायता|जानकारी|उत्तर|जवाब|प्रदान|दे|बता|लिख|कर|समर्थन|साझा"
                         r"|पूरा)[^।]{0,24}?(?:नहीं\s+(?:कर\s+|दे\s+|बता\s+|लिख\s+|हो\s+)?"
           r"(?:सक|पाऊ|करूँगा|करूंगा|दूँगा|दूंगा|पाउ)|असमर्थ|में सक्षम नहीं)|नहीं\s+(?:कर|दे|बता|लिख)\s+(?:सक|पा)"
           r"|(?:क्षमा|माफ|खेद|अफसोस)[^।]{0,60}नहीं\s+\S*\s*(?:सक|पा)"),
}  # fmt: skip
_REFUSALS = {
    script: re.compile("|".join(f"(?:{phrases})" for at, phrases in _PHRASES.values() if at == script))
    for script in {at for at, _ in _PHRASES.values()}
}
# What only sounds like a refusal: praise, and what somebody else cannot do.
_HARMLESS = re.compile(
    r"\bne saurais (?:que |trop |assez )|\bno (?:puedo|podria) (?:evitar|creer|dejar de)|\bnao posso deixar de"
    r"|\bkann ich nur\b"
)
# Commonest words: a text in a Latin script without them is in a language that is not covered here.
_COMMON = {
    "en": "the of and to in is that for it on with as you are this be by or from not your can have an will at if i a",
    "es": "de la que el en y los se del las un por con una para su es lo como al no si mas o te le",
    "pt": "de a o que e do da em um para com nao uma os no se na por mais as dos como mas ao das ou",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se il vous je ou",
    "de": "der die und in den von zu das mit sich des auf fur ist im dem nicht ein eine als auch es an werden sie man",
    "it": "di e il la che in un per una del non con si da le al dei i lo della gli come ma piu",
    "nl": "de van een het en in is dat op te met voor zijn die niet aan er om ook als dan maar bij je",
    "pl": "w i na z do nie sie to jest ze o jak za od przez po dla tym",
    "id": "yang dan di dengan untuk dari pada ini dalam tidak akan itu ke adalah atau juga anda bisa saya lalu",
    "tr": "ve bir bu icin ile de da en daha olarak cok gibi olan ne kadar sonra her ya",
    "vi": "la va cua co cho khong nhung trong mot duoc nguoi voi cac de tu den nhu ban nay",
}
_COMMON_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
_WORDS = re.compile(r"[^\W\d_]+")
_SCRIPTS = {"CJK": "han", "HIRAGANA": "japanese", "KATAKANA": "japanese"}
COVERED = frozenset(_REFUSALS)


def refuses(sentence: str, script: str) -> bool:
    """Whether a sentence (as `normalise.spoken` leaves it) refuses in one of the languages of that script."""
    return bool(script in _REFUSALS and _REFUSALS[script].search(sentence) and not _HARMLESS.search(sentence))


def script_of(text: str) -> str:
    """The script that most letters are of (`latin`, `cyrillic`, `han`, `japanese`, `hangul`, `arabic`, `devanagari` or
    another's name); `latin` for a text without letters. Kana among Chinese characters make them Japanese."""
    if text.isascii():
        return "latin"
    counts = Counter(_script(character) for character in text)
    del counts[""]
    if counts["japanese"] * 10 > counts["han"]:
        counts["japanese"] += counts.pop("han", 0)
    return counts.most_common(1)[0][0] if counts else "latin"


def covered(text: str, script: str) -> bool:
    """Whether the rules can judge a text: its script is one of theirs and, for longer prose in Latin letters, it has
    common words of one of their languages. Short answers, names and code are taken as they are."""
    if script != "latin":
        return script in COVERED or sum(character.isalpha() for character in text) < MIN_LETTERS
    words = _WORDS.findall(text)
    if len(words) < MIN_WORDS:
        return True
    return any(sum(w in common for w in words) >= COMMON_SHARE * len(words) for common in _COMMON_WORDS.values())


def english(text: str) -> bool:
    """Whether a lower-case text in Latin letters has common English words: then no other language is looked for."""
    words = text.split()
    return 5 * sum(word in _COMMON_WORDS["en"] for word in words) > len(words)


@lru_cache(maxsize=8192)
def _script(character: str) -> str:
    if not character.isalpha() and unicodedata.category(character) not in ("Mc", "Mn"):
        return ""
    name = unicodedata.name(character, "").split()[0:1]
    return _SCRIPTS.get(name[0], name[0].lower()) if name else ""
