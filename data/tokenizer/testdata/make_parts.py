"""Makes parts.json with Hugging Face tokenizers 0.23.3.

  pip install tokenizers==0.23.3 && python make_parts.py

parts.json holds one small tokenizer for each part of a tokenizer.json and for
compositions of them, texts made of what has ever been cut wrongly, and the ids
that the texts get, with special tokens in the text as text and as tokens.
"""
import json, os, random, tempfile

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers as N, pre_tokenizers as P
random.seed(23)
GPT2=r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CLP=r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
SPACE=" \t\n\r\u00a0\u2003\u3000\u0085\u2028\u200b\x0b\x0c"
ODD=list("abcXYZéÉßıİſǅ019²½٣Ⅷ.,;:!?'\"-_()$€+<=>^`|~#@&*/\\%¿§°­\u0301\u0316\u093f\u0915\u094d한글中文字日本語のカー。、「」аБвΩώאבعربไทย🙂👨\u200d👩\ufeff\ufffd\u0345\ufb01\ufb03ﬆǆＡｂ１ﷺ①㍿ⅻℌ\u1e9e\u0600\u0d4e\U00010400\U00011935\U00011930\ua7cb\u1c89\U00016139\U0002ebf0\x00\x01\x1f\x7f\x8f▁Ġ")
def rnd(n):
    out=[]
    for _ in range(n):
        r=random.random()
        if r<.30: out.append(random.choice(SPACE) if random.random()<.5 else ' ')
        elif r<.6: out.append(random.choice(["the","Word","it's","I'LL","don't","12345","x","foo_bar","ABC","e\u0301","日本","한국","…","--","\r\n","\n\n","  ","   ","'S","'ſ","Straße"]))
        elif r<.93: out.append(random.choice(ODD))
        else:
            c=random.randrange(0x250 if random.random()<.5 else 0x30000)
            if not 0xd800<=c<0xe000: out.append(chr(c))
    return ''.join(out)
texts=["", " ", "\n", "a", " a b ", "the  quick\n\nbrown fox's 12345 items… (really?)", "x"*70, "a"+"\u0301"*40, "\u0301\u0316"*20+"a", "क्षि 한국어 中文。\n字", "e\u0301\u0316E\u0316\u0301", "\U00011935\U00011930", "\u1100\u1161\u11a8\uac00\u11a8", "ᾳ\u0345\u0301", "\r\n\r \r\n", "ﬁ ﬃ ǆ İ"]
texts+=[rnd(random.randint(3,60)) for _ in range(10)]
norms={
 'none':None,'NFC':N.NFC(),'NFD':N.NFD(),'NFKC':N.NFKC(),'NFKD':N.NFKD(),'Lowercase':N.Lowercase(),'Strip':N.Strip(),'StripL':N.Strip(True,False),'StripR':N.Strip(False,True),
 'StripAccents':N.StripAccents(),'NFDStripAccents':N.Sequence([N.NFD(),N.StripAccents()]),'Nmt':N.Nmt(),'ByteLevel':N.ByteLevel(),'Prepend':N.Prepend('▁'),
 'ReplaceS':N.Replace(' ','▁'),'ReplaceSS':N.Replace('ab','b'),'ReplaceEmptyS':N.Replace('','-'),'ReplaceR':N.Replace(Regex(' {2,}'),'▁'),'ReplaceR2':N.Replace(Regex(r'[^\S\n]+(?=\n)|\p{M}'),''),'ReplaceR0':N.Replace(Regex(r'x*'),'-'),
 'Bert':N.BertNormalizer(),'BertCased':N.BertNormalizer(lowercase=False),'BertAcc':N.BertNormalizer(strip_accents=True,lowercase=False,clean_text=False),'BertNoAcc':N.BertNormalizer(strip_accents=False,handle_chinese_chars=False),
 'SeqEmpty':N.Sequence([]),'Seq':N.Sequence([N.NFKC(),N.Lowercase(),N.Strip(),N.Replace(' ','▁'),N.Prepend('▁')]),'Seq2':N.Sequence([N.Nmt(),N.NFKC(),N.Replace(Regex(' {2,}'),' '),N.Strip()]),
}
pres={
 'none':None,'Whitespace':P.Whitespace(),'WhitespaceSplit':P.WhitespaceSplit(),'Bert':P.BertPreTokenizer(),'Byte':P.ByteLevel(add_prefix_space=False),'BytePrefix':P.ByteLevel(add_prefix_space=True),'ByteNoRe':P.ByteLevel(add_prefix_space=True,use_regex=False),
 'MetaAlways':P.Metaspace(),'MetaFirst':P.Metaspace(prepend_scheme='first'),'MetaNever':P.Metaspace(prepend_scheme='never'),'MetaNoSplit':P.Metaspace(split=False),'MetaFirstNoSplit':P.Metaspace(prepend_scheme='first',split=False),'MetaUnder':P.Metaspace(replacement='_'),
 'Digits':P.Digits(),'DigitsEach':P.Digits(individual_digits=True),'Delim':P.CharDelimiterSplit('a'),'Scripts':P.UnicodeScripts(),'Fixed':P.FixedLength(3),
 'SeqEmpty':P.Sequence([]),'SeqPD':P.Sequence([P.Punctuation(),P.Digits(individual_digits=True),P.ByteLevel(add_prefix_space=False)]),'SeqFalcon':P.Sequence([P.Punctuation('contiguous'),P.ByteLevel(add_prefix_space=False),P.Digits(),P.Split(Regex('[0-9][0-9][0-9]'),'isolated')]),
 'SeqWM':P.Sequence([P.WhitespaceSplit(),P.Metaspace()]),'SeqWB':P.Sequence([P.WhitespaceSplit(),P.ByteLevel(add_prefix_space=True)]),'SeqMD':P.Sequence([P.Metaspace(),P.Digits(individual_digits=True)]),
 'CL':P.Sequence([P.Split(Regex(CL),'isolated'),P.ByteLevel(add_prefix_space=False,use_regex=False)]),'CLinv':P.Split(Regex(CL),'removed',invert=True),'CLP':P.Split(Regex(CLP),'isolated'),
 'Chars':P.Split('','isolated'),'SplitSpPrev':P.Split(' ','merged_with_previous'),'SplitSpNext':P.Split(' ','merged_with_next'),
 'DeepSeek':P.Sequence([P.Split(Regex(r'\p{N}{1,3}'),'isolated'),P.Split(Regex('[一-龥\u3040-ゟ゠-ヿ]+'),'isolated'),P.Split(Regex('[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+'),'isolated'),P.ByteLevel(add_prefix_space=False,use_regex=False)]),
 'O200k':P.Split(Regex("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),'isolated'),
 'Tekken':P.Split(Regex("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),'isolated'),
}
for b in ['isolated','removed','contiguous','merged_with_previous','merged_with_next']:
    pres['Punct-'+b]=P.Punctuation(b)
    for inv in (False,True):
        pres['Split-%s-%d'%(b,inv)]=P.Split(Regex(r'\s+|\d|a\w?'),b,invert=inv)
        pres['SplitS-%s-%d'%(b,inv)]=P.Split('a',b,invert=inv)
for i,r in enumerate([r'\bw?o|o\b',r'(?<=\s)\S|(?<![a-z])\d+',r'^.|.$',r'(?>a|ab)c|(?i)th[^\W\d]',r'[[:punct:]&&[^.,]]+|[[:alpha:]]{2,3}?',r'(?:\w\s?)*?x|\R|\h{2}',r'\p{Han}|\p{^L}{3}|[^\p{Lu}\p{Mn}-]',r'[\w\-\.]+@|\p{Sc}\d*+|\X'.replace(r'|\X','') ,r'(?x) [0-9]{,2} [a-z] # c',r'a*|b',r'(a|b|(?:e\x{301}))+?(?=\s|$)',r'\A\s|\s\z|\Z']):
    try: pres['Re%d'%i]=P.Split(Regex(r),'isolated')
    except Exception as e: print(r,e)
combos=[(n,'WhitespaceSplit' if n not in('Bert','BertCased') else 'Bert') for n in norms]+[(n,'none') for n in norms]+[('none',p) for p in pres]
combos+=[('NFC','CL'),('NFKC','MetaAlways'),('Strip','MetaFirst'),('Lowercase','Byte'),('Seq2','MetaFirst'),('Prepend','Chars'),('StripL','BytePrefix'),('NFKD','Scripts'),('Strip','SeqWM')]
out=tempfile.mkdtemp()
ADDED="Word  Word the other the.the  abc ①x ﬁ <mask>  a \n\n  x it\t <mask><mask> foo_bar 12 1 2don't don x ABC é WORD word"
texts.append(ADDED)
for n,p in combos:
    t=Tokenizer(models.WordLevel({'[UNK]':0},unk_token='[UNK]'))
    if norms[n] is not None: t.normalizer=norms[n]
    if pres[p] is not None: t.pre_tokenizer=pres[p]
    vocab={'[UNK]':0}
    for x in texts:
        y=norms[n].normalize_str(x) if norms[n] is not None else x
        for w,_ in (pres[p].pre_tokenize_str(y) if pres[p] is not None else ([(y,0)] if y else [])):
            vocab.setdefault(w,len(vocab))
    t.model=models.WordLevel(vocab,unk_token='[UNK]')
    t.save('%s/%s+%s.json'%(out,n,p))
# models
from tokenizers import trainers
def bpe(name,**k):
    tr=k.pop('trainer',{})
    t=Tokenizer(models.BPE(**k)); t.pre_tokenizer=k.get('pre') or P.WhitespaceSplit()
    t.train_from_iterator(texts*2,trainers.BpeTrainer(vocab_size=340,show_progress=False,special_tokens=['<unk>'],**tr))
    t.save('%s/model-%s.json'%(out,name)); return t
bpe('bpe-suffix',unk_token='<unk>',end_of_word_suffix='</w>',trainer=dict(end_of_word_suffix='</w>'))
bpe('bpe-prefix',unk_token='<unk>',continuing_subword_prefix='##',trainer=dict(continuing_subword_prefix='##',limit_alphabet=40))
bpe('bpe-fuse',unk_token='<unk>',fuse_unk=True,trainer=dict(limit_alphabet=40))
bpe('bpe-nofuse',unk_token='<unk>',trainer=dict(limit_alphabet=40))
bpe('bpe-nounk',trainer=dict(limit_alphabet=40))
t=bpe('bpe-x',unk_token='<unk>',fuse_unk=True,trainer=dict(limit_alphabet=40))
d=json.loads(t.to_str()); d['model']['byte_fallback']=True
for b in range(256):
    if b!=0xe3: d['model']['vocab']['<0x%02X>'%b]=len(d['model']['vocab'])
json.dump(d,open(out+'/model-bpe-fallback-hole.json','w'))
d['model']['ignore_merges']=True; d['model']['vocab']['the']=len(d['model']['vocab'])
json.dump(d,open(out+'/model-bpe-ignore.json','w'))
d['pre_tokenizer']=None; json.dump(d,open(out+'/model-bpe-nopre.json','w'))
d['normalizer']={"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"x"},{"type":"Replace","pattern":{"String":" "},"content":"e"}]}
json.dump(d,open(out+'/model-bpe-llama.json','w'))
t=Tokenizer(models.WordPiece(unk_token='[UNK]')); t.pre_tokenizer=P.Whitespace()
t.train_from_iterator(texts*2,trainers.WordPieceTrainer(vocab_size=400,limit_alphabet=60,special_tokens=['[UNK]'],show_progress=False)); t.save(out+'/model-wordpiece.json')
d=json.loads(t.to_str()); d['model']['continuing_subword_prefix']=''; d['model']['max_input_chars_per_word']=6; json.dump(d,open(out+'/model-wordpiece-noprefix.json','w'))
for fb in (0,1):
  for pre,pn in ((P.Metaspace(),'meta'),(None,'nopre'),(P.Metaspace(split=False),'nosplit')):
    t=Tokenizer(models.Unigram())
    if pre: t.pre_tokenizer=pre
    t.train_from_iterator([x for x in texts*2 if x],trainers.UnigramTrainer(vocab_size=900,unk_token='<unk>',special_tokens=['<unk>'],show_progress=False))
    d=json.loads(t.to_str())
    if fb:
        d['model']['byte_fallback']=True
        d['model']['vocab']+=[['<0x%02X>'%b,-20.0] for b in range(256)]
    json.dump(d,open(out+'/model-unigram-%s-%d.json'%(pn,fb),'w'))
# added tokens
base=json.load(open(out+'/none+WhitespaceSplit.json'))
t=Tokenizer.from_file(out+'/NFKC+MetaAlways.json')
t.add_tokens([AddedToken('Word',lstrip=True),AddedToken('the',single_word=True),AddedToken('abc',normalized=True),AddedToken('①x',normalized=True),AddedToken('fi',normalized=True),AddedToken('\n\n',rstrip=True),AddedToken('it',normalized=False)])
t.add_special_tokens([AddedToken('<mask>',lstrip=True,rstrip=True),'foo_bar',AddedToken('12',normalized=True)])
t.save(out+'/added-NFKC.json')
t=Tokenizer.from_file(out+'/Lowercase+Byte.json'); t.add_tokens([AddedToken('WORD',normalized=True),AddedToken('don',single_word=True,normalized=False),AddedToken(' x',normalized=False),AddedToken('é',normalized=False)]); t.add_special_tokens(['don\'t','ABC']); t.save(out+'/added-lower.json')

def order(name):
    return (not name.startswith("none"), name)
rows=[]
for f in sorted(os.listdir(out), key=order):
    t=Tokenizer.from_file(os.path.join(out,f))
    ids=[]
    for special in (True,False):
        t.encode_special_tokens=special
        ids.append([t.encode(x,add_special_tokens=False).ids for x in texts])
    row={"name":f[:-5],"tokenizer":json.loads(t.to_str()),"ids":ids[0]}
    if ids[1]!=ids[0]: row["special"]=ids[1]
    rows.append(row)
here=os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here,"parts.json"),"w",encoding="utf-8") as f:
    dump=lambda x: json.dumps(x,ensure_ascii=True,separators=(",",":"))
    f.write('{"texts":'+dump(texts)+',\n"tokenizers":[\n'+",\n".join(dump(r) for r in rows)+"\n]}\n")
